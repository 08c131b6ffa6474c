"""Which frames of a clip to look at, and which of those to keep."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float

from pipelines.faces import head_pose


def candidate_indices(num_frames: int, fps: Fraction, wanted: int, *, least: int, fps_limit: float) -> tuple[int, ...]:
    """Numbers of the frames to look at: `wanted` of them spread evenly over the whole clip, no denser than `fps_limit`.

    `least` frames are looked at even where that is denser, if the clip has them.
    """
    number = min(wanted, num_frames, max(1, int(num_frames / float(fps) * fps_limit)))
    number = max(number, min(num_frames, least))
    # The middle of each of `number` equal parts.
    return tuple(int((i + 0.5) * num_frames / number) for i in range(number))


def choose_frames(landmarks: Float[np.ndarray, "frames 68 2"], number: int) -> tuple[int, ...]:
    """Positions of `number` frames spread over pose and expression, ascending; all of them where there are fewer.

    Farthest-point selection from the most ordinary frame, in yaw and pitch (per 15 degrees), mouth (per 0.2) and eye
    openness (per 0.1), and a little in time so that equal faces come from different moments.
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
    first = int(np.argmin(np.linalg.norm(features - np.median(features, axis=0), axis=1)))
    chosen = [first]
    nearest = np.linalg.norm(features - features[first], axis=1)
    while len(chosen) < number:
        best = int(np.argmax(nearest))
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return tuple(sorted(chosen))
