"""Lay a driver's motion over that of a film's person: some parts of the face are the driver's, the others stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from pipelines.faces.head_pose import (
    INNER_LIP,
    LEFT_BROW,
    LEFT_EYE,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    Pose,
    eye_openness,
    find_neutral_frame,
    fit_pose,
    mouth_openness,
    unproject,
)
from training.animation.checks.bent_limits import bent_frames
from training.animation.checks.missing_face import OnMissing, motion_shares
from training.animation.driver_track import DriverTrack
from training.animation.motion.fit_actions import without_expression
from training.animation.motion.follow import retargeted
from training.animation.retarget import MotionOptions
from training.animation.smoothing import fill_gaps
from training.images import smooth_step

_EASE_S = 0.3  # over which the driver's motion gives way to the film's own where the driver ends
_FRAMES_AT_ONCE = 1000
# A film shows its nose and the sides of its jaw itself, whatever is said.
_POINTS = {
    "lips": {
        **dict.fromkeys((2, 14), 0.5),
        **dict.fromkeys((*range(3, 14), *range(OUTER_LIP.start, INNER_LIP.stop)), 1.0),
    },
    "eyes": dict.fromkeys(range(RIGHT_EYE.start, LEFT_EYE.stop), 1.0),
    "brows": dict.fromkeys(range(RIGHT_BROW.start, LEFT_BROW.stop), 1.0),
}
_DEGREES = 10.0  # unit of turns in the fit of `_Turns`
_RIDGE = 0.05  # its penalty, relative to the spread of a turn of `_DEGREES`
_FITTED_FRAMES = 1000


@dataclass(frozen=True, eq=False)
class FilmTargets:
    """The face that a film is to show in each of its frames."""

    landmarks: Float[np.ndarray, "frames 68 2"]
    """In the unit of the film's track; those of parts that are not driven are the film's own."""
    gaze: Float[np.ndarray, "frames 2 2"] | None
    """None where the film's own is unknown."""
    shares: Float[np.ndarray, frames]
    """Share of the driver's motion in [0, 1]: where it is 0, the frame is the film's own."""
    bent_frames: int = 0
    """Driver's frames whose turns the limits bend, see `checks.bent_limits`."""


def lay_over(
    film: DriverTrack, driver: DriverTrack, options: MotionOptions, on_missing: OnMissing = "fill"
) -> FilmTargets:
    """Return the landmarks and gaze of a film whose parts `options.parts` follow a driver.

    Both start together and are aligned by time. Driven parts have the driver's expression on the film's face at rest
    (its most relaxed frame, or with `options.absolute` that frame without its expression), in each frame's pose. After
    the driver's end, and where `film` lacks the face, the film stays as it is; with `on_missing` "rest", also where the
    driver's face is missing.

    Raises:
        ValueError: `on_missing` is "cut", which a film cannot follow, or "fail" and the driver's face is missing.
    """
    if on_missing == "cut":
        raise ValueError("--on-missing cut leaves out a driver's frames, but a film as the source keeps its frames")
    own, seconds = film.landmarks, film.times.seconds
    looks = _known_gaze(film)
    neutral = int(np.flatnonzero(film.found)[find_neutral_frame(own[film.found])])
    rest = without_expression(own[neutral]) if options.absolute else own[neutral]
    rest_gaze = None if looks is None else looks[neutral]
    moved, gaze = retargeted(rest, rest_gaze, driver, options, "hold" if on_missing == "rest" else on_missing)
    shares = np.where(film.found, _driver_shares(driver, seconds, on_missing), 0.0)
    turns, weights = _Turns.fit(own[film.found], rest), _point_weights(options)
    targets = own.copy()
    for first in range(0, len(own), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        now = _at_times(moved, driver.times.seconds, seconds[part])
        targets[part] = _driven(own[part], now, shares[part, None, None], weights, turns, options)
    if looks is not None and gaze is not None and options.gaze_strength:
        turned = _at_times(gaze, driver.times.seconds, seconds)
        looks = (looks + shares[:, None, None] * (turned - looks)).astype(np.float32)
    bent = bent_frames(rest, driver.landmarks, moved, options) & driver.found
    return FilmTargets(targets, looks, np.asarray(shares, np.float32), int(bent.sum()))


def _driven(
    own: Float[np.ndarray, "frames 68 2"],
    moved: Float[np.ndarray, "frames 68 2"],
    shares: Float[np.ndarray, "frames 1 1"],
    weights: Float[np.ndarray, "68 1"],
    turns: _Turns,
    options: MotionOptions,
) -> Float[np.ndarray, "frames 68 2"]:
    """Return the landmarks of frames, given those of the face at rest with the driver's motion."""
    own_pose, follows_pose = fit_pose(own), "pose" in options.parts
    theirs = fit_pose(moved) if follows_pose else turns.rest_pose(len(own))
    pose = _between(own_pose, theirs, shares[:, 0, 0]) if follows_pose else own_pose
    heads = unproject(own, own_pose)
    wanted = unproject(moved, theirs)
    wanted[..., :2] += turns.change(pose)
    heads += shares * weights * (wanted - heads)
    drawn = pose.project(heads).astype(np.float32)
    return drawn if follows_pose else np.where(weights > 0, drawn, own)


def _point_weights(options: MotionOptions) -> Float64[np.ndarray, "68 1"]:
    weights = np.zeros((68, 1))
    for part, points in _POINTS.items():
        if part in options.parts:
            weights[[*points], 0] = [*points.values()]
    return weights


def _driver_shares(
    driver: DriverTrack, seconds: Float64[np.ndarray, " frames"], on_missing: OnMissing
) -> Float[np.ndarray, " frames"]:
    """Return the share of the driver's motion at times: it falls to 0 at the driver's end."""
    left = driver.times.duration_s - seconds
    if driver.times.duration_s >= seconds[-1]:  # which the last frame of equally long films must not show
        left = np.full_like(left, _EASE_S)
    shares = np.asarray(smooth_step(left / _EASE_S), np.float64)
    if on_missing == "rest" and not driver.found.all():
        shares *= np.interp(seconds, driver.times.seconds, motion_shares(driver, instantly=False))
    return shares


def _at_times(
    values: Float[np.ndarray, "frames points 2"],
    times: Float64[np.ndarray, " frames"],
    seconds: Float64[np.ndarray, " at"],
) -> Float[np.ndarray, "at points 2"]:
    """Interpolate linearly between frames; before the first and after the last it stands still."""
    after: Int[np.ndarray, " at"] = np.clip(np.searchsorted(times, seconds, side="right"), 1, max(len(times) - 1, 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    length = np.maximum(times[after] - times[before], 1e-9)
    share = np.clip((seconds - times[before]) / length, 0, 1)[:, None, None]
    mixed: np.ndarray = values[before] + share * (values[after] - values[before])
    return mixed.astype(np.float32)


def _known_gaze(film: DriverTrack) -> Float[np.ndarray, "frames 2 2"] | None:
    known = np.isfinite(film.gaze).all(axis=(1, 2))
    return fill_gaps(film.gaze, known) if known.any() else None


def _between(own: Pose, theirs: Pose, shares: Float[np.ndarray, " frames"]) -> Pose:
    yaw, pitch, roll, scale = (
        getattr(own, name) + shares * (getattr(theirs, name) - getattr(own, name))
        for name in ("yaw", "pitch", "roll", "scale")
    )
    centre = own.translation + shares[:, None] * (theirs.translation - own.translation)
    return Pose.from_angles(yaw, pitch, roll, scale, centre)


@dataclass(frozen=True, eq=False)
class _Turns:
    """How the points of a head that is taken for rigid seem to move when it turns, as its real depth is another.

    A linear fit over the film's frames: without it, a mouth at rest would slip sideways on a face that turns.
    """

    neutral: Pose
    slopes: Float64[np.ndarray, "2 68 2"]
    """Centimetres for a turn by `_DEGREES` of yaw and of pitch."""

    @classmethod
    def fit(cls, landmarks: Float[np.ndarray, "frames 68 2"], rest: Float[np.ndarray, "68 2"]) -> _Turns:
        chosen = landmarks[:: -(-len(landmarks) // _FITTED_FRAMES)]
        pose, neutral = fit_pose(chosen), fit_pose(rest)
        heads = unproject(chosen, pose)[..., :2]
        width = np.linalg.norm(heads[:, 54] - heads[:, 48], axis=-1)
        # Expressions are fitted beside the turns, so that who nods while speaking does not move the mouth by nodding.
        columns = [pose.yaw / _DEGREES, pose.pitch / _DEGREES, 3 * mouth_openness(chosen), width]
        causes = np.stack([*columns, 3 * eye_openness(chosen).mean(axis=-1)], axis=-1)
        causes -= causes.mean(axis=0)
        effects = (heads - heads.mean(axis=0)).reshape(len(heads), -1)
        gram = causes.T @ causes + _RIDGE * len(causes) * np.eye(causes.shape[1])
        return cls(neutral, np.linalg.solve(gram, causes.T @ effects)[:2].reshape(2, 68, 2))

    def change(self, pose: Pose) -> Float64[np.ndarray, "frames 68 2"]:
        """Return how far the points seem to have moved since the neutral frame, centimetres."""
        turned = np.stack([pose.yaw - self.neutral.yaw, pose.pitch - self.neutral.pitch], axis=-1) / _DEGREES
        moved: np.ndarray = np.tensordot(turned, self.slopes, 1)
        return moved

    def rest_pose(self, frames: int) -> Pose:
        return Pose(*(np.repeat(value[None], frames, axis=0) for value in vars(self.neutral).values()))
