"""Actions and angles of a tracked face, relative to its own rest.

Per frame, the actions in [0, 1] are found that move the face's own landmarks, in its head's axes, from its neutral
frame to where they are: least squares with a small penalty on each action, by coordinate descent for many frames at
once. The matrix is the same for all frames.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, EYE_CORNERS, JAW, eye_openness, fit_pose, unproject
from pipelines.synthetic.head.arkit_actions import ACTIONS, GAZE_DEGREES, action_index
from pipelines.synthetic.head.landmark_head import load_landmark_head
from training.animation.driver_track import DriverTrack, Rest
from training.animation.motion.face_motion import EYEBALL, FaceMotion
from training.animation.retarget import MotionOptions, part_scales, resolve_neutral_frame
from training.animation.smoothing import fill_gaps

_NOISE, _SPREAD = 0.12, 0.5  # standard deviations of a landmark (centimetres) and of an action
_JAW_WEIGHT = 0.3  # of the outline, which detectors find less well
_SWEEPS = 60
_FRAMES_AT_ONCE = 1000
_SHUT = 0.12  # openness of an eye below which its gaze is not known
# What landmarks do not show, and gaze, which is measured.
_NOT_FITTED = ("tongueOut", "cheekPuff", "jawForward")


def fit_actions(track: DriverTrack, neutral_frame: int | None = None) -> FaceMotion:
    """Return the motion of a track relative to its rest, or else its neutral frame: there, all of it is 0.

    Travel is in the head's centimetres, since the neutral frame.

    Raises:
        ValueError: `neutral_frame` is not a frame of the track.
    """
    if track.rest is not None and neutral_frame is None:
        at_rest = track.rest
    else:
        neutral = resolve_neutral_frame(track.landmarks, MotionOptions(neutral_frame=neutral_frame))
        at_rest = Rest(track.landmarks[neutral], track.gaze[neutral])
    rest_pose = fit_pose(at_rest.landmarks)
    rest = unproject(at_rest.landmarks, rest_pose)
    fit = _Fit(rest)
    frames = len(track)
    actions, angles = np.zeros((frames, len(ACTIONS))), np.zeros((frames, 3))
    travel, zoom = np.zeros((frames, 2)), np.ones(frames)
    rest_angles = np.array([rest_pose.yaw, rest_pose.pitch, rest_pose.roll])
    for first in range(0, frames, _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        pose = fit_pose(track.landmarks[part])
        actions[part] = fit.actions(unproject(track.landmarks[part], pose) - rest)
        angles[part] = np.stack([pose.yaw, pose.pitch, pose.roll], axis=-1) - rest_angles
        travel[part] = (pose.translation - rest_pose.translation) / rest_pose.scale
        zoom[part] = pose.scale / rest_pose.scale
    _add_gaze(actions, track, at_rest.gaze)
    return FaceMotion(actions, angles, travel, zoom)


def without_expression(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 2"]:
    """Return a face's landmarks (pixels) as they would be at rest: less the actions that tell it from a mean face.

    The face keeps its shape, as far as no action resembles it.
    """
    mean = load_landmark_head().points[:, :2]
    neutral = unproject(mean, fit_pose(mean))
    pose = fit_pose(landmarks)
    head, fit = unproject(landmarks, pose), _Fit(neutral)
    (actions,) = fit.actions((head - neutral)[None])
    expression = np.tensordot(actions, load_landmark_head().actions, 1)
    return np.asarray(pose.project(head - expression), np.float32)


class _Fit:
    """The normal equations of one face."""

    def __init__(self, rest: Float[np.ndarray, "68 3"]) -> None:
        head = load_landmark_head()
        self.fitted = np.array(
            [i for i, name in enumerate(ACTIONS) if name not in _NOT_FITTED and not name.startswith("eyeLook")]
        )
        moves = (head.actions * part_scales(rest, head.points))[self.fitted, :, :2]
        weights = np.ones((68, 1))
        weights[JAW] = _JAW_WEIGHT
        self.weighted = (moves * weights).reshape(len(moves), -1)
        self.gram = self.weighted @ moves.reshape(len(moves), -1).T + (_NOISE / _SPREAD) ** 2 * np.eye(len(moves))

    def actions(self, change: Float[np.ndarray, "frames 68 3"]) -> Float[np.ndarray, "frames 52"]:
        wanted = change[..., :2].reshape(len(change), -1) @ self.weighted.T
        found = np.zeros_like(wanted)
        for _ in range(_SWEEPS):
            for column, row in enumerate(self.gram):
                step = (wanted[:, column] - found @ row) / row[column]
                found[:, column] = np.clip(found[:, column] + step, 0, 1)
        actions = np.zeros((len(change), len(ACTIONS)))
        actions[:, self.fitted] = found
        return actions


def _add_gaze(actions: Float[np.ndarray, "frames 52"], track: DriverTrack, at_rest: Float[np.ndarray, "2 2"]) -> None:
    """Set the actions of gaze, both eyes alike, from the irises; without irises they stay 0."""
    known = np.isfinite(track.gaze).all(axis=(1, 2)) & (eye_openness(track.landmarks).min(axis=1) > _SHUT)
    if not known.any():
        return
    looks = fill_gaps(track.gaze.mean(axis=1, keepdims=True), known)[:, 0]
    corners = CANONICAL_LANDMARKS[[*EYE_CORNERS[0]]]
    widths = float(np.linalg.norm(corners[1] - corners[0])) / EYEBALL
    # The neutral frame's irises may not be known: then gaze is relative to the film's median.
    start = at_rest.mean(axis=0) if np.isfinite(at_rest).all() else np.median(looks, axis=0)
    turn = np.degrees(np.arcsin(np.clip((looks - start) * widths, -1, 1)))
    for column, before, after in ((0, ("In", "Out"), ("Out", "In")), (1, ("Up", "Up"), ("Down", "Down"))):
        for sign, names in ((-1, before), (1, after)):
            for side, name in zip(("Left", "Right"), names, strict=True):
                share = np.clip(sign * turn[:, column] / GAZE_DEGREES[name], 0, 1)
                actions[:, action_index(f"eyeLook{name}{side}")] = share
