"""Control points of the warp: 68 landmarks, points of the skull, and fixed points around the crop.

The skull's points come from a 3-D head model fitted to the landmarks, so that hair and forehead move with the face; the
fixed points keep the background in place.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import skull_points

REACH = 1.5
"""Where nothing moves any more, in half-sizes of the crop: beyond its border, so that a head that fills the crop can
still move."""
_SIDES = 1.1  # the same left and right of the head, so that the background does not follow a head that turns
_FRAME_POINTS_PER_SIDE = 7


def control_points(landmarks: Float[np.ndarray, "*batch 68 2"], size: int) -> Float[np.ndarray, "*batch points 2"]:
    """Return landmarks, points of the skull and fixed points, in [-1, 1] across the edges of a `size` px crop.

    Args:
        landmarks: in pixels of the crop.
    """
    points = np.concatenate([np.asarray(landmarks, np.float64), skull_points(landmarks)], axis=-2)
    normalised = unit_points(points, size)
    fixed = np.broadcast_to(_fixed_points(), (*normalised.shape[:-2], *_fixed_points().shape))
    return np.concatenate([normalised, fixed], axis=-2).astype(np.float32)


def unit_points(points: Float[np.ndarray, "*batch points 2"], size: int) -> Float[np.ndarray, "*batch points 2"]:
    """Convert pixel centres of a `size` px crop to [-1, 1] across its edges."""
    return (points + 0.5) * (2 / size) - 1


@lru_cache(maxsize=1)
def _fixed_points() -> Float[np.ndarray, "frame 2"]:
    side = np.linspace(-REACH, REACH, _FRAME_POINTS_PER_SIDE)
    far = np.full_like(side, REACH)
    near = np.full_like(side, _SIDES)
    lines = ((side, -far), (side, far), (-far, side), (far, side), (-near, side), (near, side))
    return np.unique(np.concatenate([np.stack(line, -1) for line in lines]), axis=0)


def num_fixed_points() -> int:
    """Return the number of fixed points, the last of the control points."""
    return len(_fixed_points())
