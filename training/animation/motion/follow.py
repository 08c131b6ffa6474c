"""A driver's track and an avatar -> the landmarks, gaze and shots of every frame."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from training.animation.animator import Animator
from training.animation.checks.missing_face import OnMissing, bridged, towards_rest
from training.animation.driver_track import DriverTrack
from training.animation.gaze import retarget_gaze
from training.animation.motion.fit_actions import without_expression
from training.animation.retarget import MotionOptions, resolve_neutral_frame, retarget
from training.animation.shots.choice import ShotShares

Targets = tuple[Float[np.ndarray, "frames 68 2"], Float[np.ndarray, "frames 2 2"] | None]


def follow(
    animator: Animator, track: DriverTrack, options: MotionOptions, on_missing: OnMissing = "fill"
) -> tuple[Float[np.ndarray, "frames 68 2"], Float[np.ndarray, "frames 2 2"] | None, ShotShares]:
    """Return what `Animator.frames` takes to follow a driver: the canvas's landmarks and gaze, and shares of shots."""
    canvas = animator.canvas
    targets, gaze = retargeted(canvas.landmarks, canvas.gaze, track, options, on_missing)
    return targets, gaze, animator.choose_shots(targets, float(track.times.fps))


def retargeted(
    landmarks: Float[np.ndarray, "68 2"],
    gaze: Float[np.ndarray, "2 2"] | None,
    track: DriverTrack,
    options: MotionOptions,
    on_missing: OnMissing = "fill",
) -> Targets:
    """Return the landmarks and gaze of a face that follows a driver, given those at rest; in the unit of those.

    Raises:
        ValueError: with `on_missing` "fail", frames lack the driver's face.
    """
    fps = float(track.times.fps)
    track = bridged(track, on_missing)
    motion = replace(options, smoothing=0.0) if track.exact else options
    rest, rest_gaze = None, None
    if track.rest is not None and (track.exact or options.absolute):
        rest, rest_gaze = track.rest.landmarks, track.rest.gaze
    else:  # a recording of actions has an offset of its own at rest, like a film
        motion = replace(motion, neutral_frame=resolve_neutral_frame(track.landmarks, options))
        if options.absolute:
            rest = without_expression(track.landmarks[motion.neutral_frame])
    own_rest = None if track.adds else without_expression(landmarks)
    targets = retarget(landmarks, track.landmarks, fps, motion, rest, own_rest)
    moved_gaze = None
    if gaze is not None:
        moved_gaze = retarget_gaze(gaze, track.gaze, track.landmarks, fps, motion, rest_gaze)
    if on_missing == "rest":
        targets = towards_rest(targets, landmarks, track)
        moved_gaze = None if gaze is None or moved_gaze is None else towards_rest(moved_gaze, gaze, track)
    return targets, moved_gaze
