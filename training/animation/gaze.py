"""Retarget gaze: the portrait's own gaze, changed as the driver's changes.

Gaze is the position of the irises in their eyes (`pipelines.faces.head_pose.gaze`). Both eyes turn by the mean change
of the driver's two, which is less noisy than either and cannot cause a squint.
"""

import numpy as np
from jaxtyping import Bool, Float

from pipelines.faces.head_pose import eye_openness, fit_pose
from training.animation.retarget import MotionOptions, resolve_neutral_frame, soft_limit
from training.animation.smoothing import fill_gaps, one_euro

_SHUT = 0.12  # gap of lids, relative to the eye's width, below which a detector only guesses the iris
_REST_FRACTION = 4  # the gaze at rest is taken from 1/4 of the frames, with head poses nearest to the neutral frame's
_FACE_WIDTH = 5.0  # in widths of an eye
# Range of an iris in widths of its eye: across, and up or down from its position. The portrait shows no more of the
# eyeball.
_LEFTMOST, _RIGHTMOST, _MAX_VERTICAL = 0.24, 0.76, 0.1
_MIN_ROOM = 0.02  # range that is always allowed, also for an iris outside these limits


def retarget_gaze(
    source: Float[np.ndarray, "2 2"],
    driver: Float[np.ndarray, "frames 2 2"],
    landmarks: Float[np.ndarray, "frames 68 2"],
    fps: float,
    options: MotionOptions,
    rest: Float[np.ndarray, "2 2"] | None = None,
) -> Float[np.ndarray, "frames 2 2"]:
    """Return the source's gaze for each driver frame.

    Args:
        driver: the driver's gaze; NaN where it is unknown.
        landmarks: the driver's landmarks; the gaze of shut eyes is interpolated between frames with open eyes.
        rest: the driver's gaze at rest, where it is known; None: found among the frames.
    """
    known = np.isfinite(driver).all(axis=(1, 2))
    if rest is None:  # else the gaze is no measurement, and known behind lids, too
        known &= eye_openness(landmarks).min(axis=1) > _SHUT
    if not known.any():
        return np.repeat(source[None], len(driver), axis=0)
    both = one_euro(fill_gaps(driver.mean(axis=1, keepdims=True), known), fps, options.smoothing, _FACE_WIDTH)
    at_rest = np.median(both[_at_rest(landmarks, known, options)], axis=0) if rest is None else rest.mean(axis=0)
    change = options.gaze_strength * (both - at_rest)
    across = soft_limit(change[..., 0], source[:, 0] - _LEFTMOST, _RIGHTMOST - source[:, 0], _MIN_ROOM)
    down = soft_limit(change[..., 1], _MAX_VERTICAL, _MAX_VERTICAL, _MIN_ROOM)
    moved: np.ndarray = source + np.stack(np.broadcast_arrays(across, down), axis=-1)
    return moved.astype(np.float32)


def _at_rest(
    landmarks: Float[np.ndarray, "frames 68 2"], known: Bool[np.ndarray, "frames"], options: MotionOptions
) -> Bool[np.ndarray, "frames"]:
    """Return the frames with open eyes whose head pose is nearest to the neutral frame's.

    The neutral frame alone may be a glance aside; and over all frames a head may turn while its eyes stay on the
    camera.
    """
    pose = fit_pose(landmarks)
    angles = np.stack([pose.yaw, pose.pitch], axis=-1)
    rotation = np.linalg.norm(angles - angles[resolve_neutral_frame(landmarks, options)], axis=-1)
    threshold = np.sort(rotation[known])[(known.sum() - 1) // _REST_FRACTION]
    rest: np.ndarray = known & (rotation <= threshold)
    return rest
