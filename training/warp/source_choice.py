"""Choose the source frame of a warp among a person's frames."""

import numpy as np
from jaxtyping import Float, Float64, Int

from pipelines.faces.head_pose import fit_pose

_PERCENT = 100.0
_LANDMARK_WEIGHT = 2.0  # weight of a mean landmark distance of one percent of the crop, in degrees of rotation


def nearest_frames(
    candidates: Float[np.ndarray, "candidates 68 2"], targets: Float[np.ndarray, "targets 68 2"], size: int
) -> Int[np.ndarray, "targets"]:
    """Return for each target the candidate with the smallest `warp_distances`."""
    nearest: np.ndarray = warp_distances(candidates, targets, size).argmin(axis=1)
    return nearest


def warp_distances(
    candidates: Float[np.ndarray, "candidates 68 2"], targets: Float[np.ndarray, "targets 68 2"], size: int
) -> Float64[np.ndarray, "targets candidates"]:
    """Return the expected loss of quality of a warp from each candidate to each target.

    The sum of the differences in yaw, pitch and roll (degrees), in the head's size (percent), and in the landmarks'
    positions (twice their mean distance in percent of the crop's side). Angles alone would ignore that a head is
    elsewhere in the frame or nearer to the camera. docs/experiments.md has measurements.

    Args:
        candidates, targets: landmarks in pixels of one crop.
        size: side of the crop, pixels.
    """
    pose, target_pose = fit_pose(candidates), fit_pose(targets)
    rotation = sum(np.abs(getattr(target_pose, a)[:, None] - getattr(pose, a)) for a in ("yaw", "pitch", "roll"))
    scale = _PERCENT * np.abs(np.log(target_pose.scale[:, None] / pose.scale))
    displacement = _PERCENT / size * np.linalg.norm(targets[:, None] - candidates, axis=-1).mean(axis=-1)
    distances: np.ndarray = rotation + scale + _LANDMARK_WEIGHT * displacement
    return distances
