"""Choose the candidate frames of a clip, and the frames to keep from them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float

from pipelines.faces import head_pose


def candidate_indices(num_frames: int, fps: Fraction, wanted: int, *, least: int, fps_limit: float) -> tuple[int, ...]:
    """Return the numbers of up to `wanted` candidate frames, spread evenly over the clip.

    There are at most `fps_limit` per second, but at least `least` of them if the clip has that many frames.
    """
    number = min(wanted, num_frames, max(1, int(num_frames / float(fps) * fps_limit)))
    number = max(number, min(num_frames, least))
    # The middle of each of `number` equal parts.
    return tuple(int((i + 0.5) * num_frames / number) for i in range(number))


def choose_frames(landmarks: Float[np.ndarray, "frames 68 2"], number: int) -> tuple[int, ...]:
    """Return the positions of `number` frames that differ most in pose and expression, ascending; all if fewer.

    Selects by `farthest_points` in yaw and pitch (in units of 15 degrees), mouth openness (0.2) and eye openness (0.1),
    and slightly in time, so that similar faces come from different moments.
    """
    count = landmarks.shape[0]
    if count <= number:
        return tuple(range(count))
    pose = head_pose.fit_pose(landmarks)
    features = np.stack(
        [
            pose.yaw / 15,
            pose.pitch / 15,
            head_pose.mouth_openness(landmarks) / 0.2,
            head_pose.eye_openness(landmarks).mean(axis=-1) / 0.1,
            np.arange(count) / count * 0.5,
        ],
        axis=1,
    )
    return tuple(sorted(farthest_points(features, number)))


def farthest_points(features: Float[np.ndarray, "frames features"], number: int) -> list[int]:
    """Return the positions of up to `number` rows that differ most, in the order of their selection.

    Farthest-point selection: start at the row nearest to the median, then repeatedly take the row with the largest
    distance to those taken.
    """
    distance = np.linalg.norm(features - np.median(features, axis=0), axis=1)
    chosen = [int(np.argmin(distance))]
    nearest = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < min(number, len(features)):
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen
