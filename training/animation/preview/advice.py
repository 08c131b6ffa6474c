"""Warnings about a portrait and a driver, one line each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from pipelines.faces.boxes import share_inside
from pipelines.faces.face import make_face
from pipelines.faces.head_pose import eye_openness, fit_pose, mouth_openness
from training.animation.preview.driver_sample import DriverSample
from training.avatars.portraits import Portrait

_MAX_YAW, _MAX_ROLL = 25.0, 40.0  # degrees
_MIN_FACE = 64  # pixels
_OPEN_MOUTH, _SHUT_EYES = 0.2, 0.15  # of `mouth_openness` and `eye_openness`


def portrait_warnings(portrait: Portrait) -> list[str]:
    """Return what will look bad because of the portrait."""
    pose, points = fit_pose(portrait.landmarks), portrait.landmarks
    height, width = portrait.image.shape[:2]
    box = make_face(points, 1.0).box
    size, warnings = max(box[2] - box[0], box[3] - box[1]), []
    if abs(pose.yaw) > _MAX_YAW:
        warnings.append(f"profile: the head is turned by {abs(pose.yaw):.0f} degrees, over {_MAX_YAW:.0f}")
    if abs(pose.roll) > _MAX_ROLL:
        warnings.append(f"tilted: the head is tilted by {abs(pose.roll):.0f} degrees")
    if size < _MIN_FACE:
        warnings.append(f"tiny face: {size:.0f} px, under {_MIN_FACE}")
    if mouth_openness(points) > _OPEN_MOUTH:
        warnings.append("mouth open at rest: it will not close well")
    if eye_openness(points).max() < _SHUT_EYES:
        warnings.append("eyes shut at rest: they will not open well")
    if share_inside(box, (0.0, 0.0, float(width), float(height))) < 0.99:
        warnings.append("cut face: the picture's border cuts the face")
    return [f"portrait: {line}" for line in warnings]


def driver_warnings(sample: DriverSample, bent: Bool[np.ndarray, "frames"]) -> list[str]:
    """Return what will look bad because of the driver. Counts are of the frames that were looked at.

    Args:
        bent: of `bent_limits.bent_frames`.
    """
    of, neutral, warnings = f"of {sample.num_frames} frames", sample.track.landmarks, []
    if sample.without_face:
        warnings.append(f"no face in {len(sample.without_face)} {of} ({_times(sample.without_face)})")
    if sample.num_crowded:
        warnings.append(f"several faces in {sample.num_crowded} {of}: --driver-face chooses")
    if sample.num_others:
        warnings.append(f"somebody else instead of the person in {sample.num_others} {of}")
    if sample.face_size < _MIN_FACE:
        warnings.append(f"tiny face: {sample.face_size:.0f} px, under {_MIN_FACE}")
    if mouth_openness(neutral).min() > _OPEN_MOUTH:
        warnings.append("mouth open at rest: it is never shut")
    if np.abs(fit_pose(neutral).yaw).min() > _MAX_YAW:
        warnings.append("profile: the head never faces the camera")
    if bent.any():
        warnings.append(f"the limits of turns bend the motion in {int(bent.sum())} {of}")
    return [f"driver: {line}" for line in warnings]


def _times(seconds: Sequence[float]) -> str:
    shown = ", ".join(f"{second:.1f}" for second in seconds[:4])
    return f"at {shown} s" if len(seconds) <= 4 else f"at {shown} s and later"
