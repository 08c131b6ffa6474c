"""Frames in which the limits of head motion bend what the driver does."""

import numpy as np
from jaxtyping import Bool, Float

from pipelines.faces.head_pose import fit_pose
from training.animation.retarget import MotionOptions, resolve_neutral_frame

_BENT = 5.0  # degrees that the head turns less than the driver's


def bent_frames(
    source: Float[np.ndarray, "68 2"],
    driver: Float[np.ndarray, "frames 68 2"],
    targets: Float[np.ndarray, "frames 68 2"],
    options: MotionOptions,
) -> Bool[np.ndarray, "frames"]:
    """Return the frames in which yaw, pitch or roll changes by over 5 degrees less than `options` ask for.

    Args:
        source: the portrait's landmarks.
        targets: its landmarks in each frame, by `retarget`.
    """
    neutral = resolve_neutral_frame(driver, options)
    theirs, ours, own = fit_pose(driver), fit_pose(targets), fit_pose(source)
    strength = options.head_motion if "pose" in options.parts else 0.0
    bent = np.zeros(len(driver), bool)
    for name in ("yaw", "pitch", "roll"):
        angles = getattr(theirs, name)
        wanted = strength * (angles - angles[neutral])
        bent |= np.abs(wanted) - np.abs(getattr(ours, name) - getattr(own, name)) > _BENT
    return bent
