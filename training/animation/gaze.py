"""Where a portrait looks while a driver moves it: its own gaze, changed as the driver's changes.

Gaze is where the irises lie in their eyes (`pipelines.faces.head_pose.gaze`). Both eyes turn alike, by the mean of the
driver's two: that is steadier than either, and nobody squints.
"""

import numpy as np
from jaxtyping import Bool, Float

from pipelines.faces.head_pose import eye_openness, fit_pose
from training.animation.retarget import MotionOptions, resolve_neutral_frame, soft_limit
from training.animation.smoothing import fill_gaps, one_euro

_SHUT = 0.12  # lids over eye width: below it irises are guessed
_REST = 4  # one frame in so many, those with the head turned most like the neutral one's, tells the gaze at rest
_FACE_WIDTH = 5.0  # in widths of an eye
# How far an iris goes, in widths of its eye: sidewards to these places, and so much up and down. What lies further
# round the eyeball the portrait does not show.
_LEFTMOST, _RIGHTMOST, _UP_AND_DOWN = 0.24, 0.76, 0.1
_LEAST_ROOM = 0.02


def retarget_gaze(
    source: Float[np.ndarray, "2 2"],
    driver: Float[np.ndarray, "frames 2 2"],
    landmarks: Float[np.ndarray, "frames 68 2"],
    fps: float,
    options: MotionOptions,
) -> Float[np.ndarray, "frames 2 2"]:
    """Where the source's irises go in each driver frame.

    Args:
        driver: the driver's gaze; NaN where it is not known.
        landmarks: the driver's. Shut eyes look nowhere: what was before and what comes after are joined.
    """
    known = np.isfinite(driver).all(axis=(1, 2)) & (eye_openness(landmarks).min(axis=1) > _SHUT)
    if not known.any():
        return np.repeat(source[None], len(driver), axis=0)
    both = one_euro(fill_gaps(driver.mean(axis=1, keepdims=True), known), fps, options.smoothing, _FACE_WIDTH)
    change = options.gaze * (both - np.median(both[_at_rest(landmarks, known, options)], axis=0))
    across = soft_limit(change[..., 0], source[:, 0] - _LEFTMOST, _RIGHTMOST - source[:, 0], _LEAST_ROOM)
    down = soft_limit(change[..., 1], _UP_AND_DOWN, _UP_AND_DOWN, _LEAST_ROOM)
    moved: np.ndarray = source + np.stack(np.broadcast_arrays(across, down), axis=-1)
    return moved.astype(np.float32)


def _at_rest(
    landmarks: Float[np.ndarray, "frames 68 2"], known: Bool[np.ndarray, "frames"], options: MotionOptions
) -> Bool[np.ndarray, "frames"]:
    """The frames in which the driver looks as at rest: the head as in the neutral frame, the eyes open.

    One frame alone may be a glance aside, and all of them a head that turns and eyes that stay on the camera.
    """
    pose = fit_pose(landmarks)
    angles = np.stack([pose.yaw, pose.pitch], axis=-1)
    turned = np.linalg.norm(angles - angles[resolve_neutral_frame(landmarks, options)], axis=-1)
    least = np.sort(turned[known])[(known.sum() - 1) // _REST]
    rest: np.ndarray = known & (turned <= least)
    return rest
