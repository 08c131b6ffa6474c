"""Which of a person's frames a warp starts from."""

import numpy as np
from jaxtyping import Float, Float64, Int

from pipelines.faces.head_pose import fit_pose

_PERCENT = 100.0
_PER_DISTANCE = 2.0  # what landmarks an average percent of the crop apart weigh, in degrees of turning


def nearest_frames(
    candidates: Float[np.ndarray, "candidates 68 2"], targets: Float[np.ndarray, "targets 68 2"], size: int
) -> Int[np.ndarray, "targets"]:
    """For each of the targets the candidate whose warp to it is expected to lose least; see `warp_distances`."""
    nearest: np.ndarray = warp_distances(candidates, targets, size).argmin(axis=1)
    return nearest


def warp_distances(
    candidates: Float[np.ndarray, "candidates 68 2"], targets: Float[np.ndarray, "targets 68 2"], size: int
) -> Float64[np.ndarray, "targets candidates"]:
    """How much a warp of each candidate to each target is expected to lose.

    It is the sum of the differences in yaw, pitch and roll (degrees), in the head's size (percent), and in where
    the landmarks lie (twice their mean distance in percent of the crop's side). By the angles alone a frame that lies
    elsewhere, or nearer to the camera, counts as near. docs/evaluation.md says what that is worth.

    Args:
        candidates, targets: landmarks in pixels of one crop.
        size: its side in pixels.
    """
    ours, wanted = fit_pose(candidates), fit_pose(targets)
    turned = sum(np.abs(getattr(wanted, a)[:, None] - getattr(ours, a)) for a in ("yaw", "pitch", "roll"))
    grown = _PERCENT * np.abs(np.log(wanted.scale[:, None] / ours.scale))
    apart = _PERCENT / size * np.linalg.norm(targets[:, None] - candidates, axis=-1).mean(axis=-1)
    distances: np.ndarray = turned + grown + _PER_DISTANCE * apart
    return distances
