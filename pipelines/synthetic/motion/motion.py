"""The motion of a head in one clip: recombined pieces of real tracks, procedural motion, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from pipelines.synthetic.head.arkit_actions import ACTIONS as ACTIONS
from pipelines.synthetic.head.arkit_actions import GAZE, LIDS, MIRRORED, MOUTH, NUM_ACTIONS
from pipelines.synthetic.motion.curves import ease, limit_speed, soft_limit
from pipelines.synthetic.motion.procedural import blinks, gaze, head_motion, mood_expression, with_expressions
from pipelines.synthetic.motion.real_tracks import TRACK_FPS, Track
from pipelines.synthetic.motion.speech import speech

MOST_DEGREES = (40.0, 22.0, 20.0)
"""Bounds of yaw, pitch and roll, either way."""
MOST_TRAVEL = (0.35, 0.35, 0.22)
"""Bounds of travel either way: right, down and nearer, units as in `Motion.travel`."""
# Speed limits. Lids and eyes are the fastest parts of a face: a blink closes in 0.1 s.
ACTIONS_PER_S = 8.0
GAZE_PER_S = 12.0
LIDS_PER_S = 16.0
DEGREES_PER_S = 120.0
TRAVEL_PER_S = 0.8

_PIECE_S = (2.0, 6.0)
_FADE_S = 0.4
_TEMPO = (0.8, 1.25)
_MIRRORED_POSE = np.array([-1.0, 1.0, -1.0, -1.0, 1.0, 1.0])  # yaw, pitch, roll, right, down, nearer


@dataclass(frozen=True, eq=False)
class Motion:
    """Actions and pose of a head in each frame of a clip."""

    fps: float
    actions: Float32[np.ndarray, "frames 52"]
    """0..1, columns as ACTIONS."""
    angles: Float32[np.ndarray, "frames 3"]
    """Yaw, pitch, roll in degrees, with the signs of `head.Pose`."""
    travel: Float32[np.ndarray, "frames 3"]
    """Translation of the head without what its rotation on the neck causes: right and down in head widths, nearer in
    natural logarithms of its apparent size."""

    def __len__(self) -> int:
        return len(self.actions)


def draw_motion(rng: np.random.Generator, tracks: Sequence[Track], num_frames: int, fps: float) -> Motion:
    """Draw a motion. Pose and expression each come from tracks or are procedural; without tracks both are procedural.

    Raises:
        ValueError: `num_frames` is 0 or `fps` is not positive.
    """
    if num_frames < 1 or fps <= 0:
        raise ValueError(f"a motion needs a frame and a positive rate, got {num_frames} frames at {fps} per second")
    times = np.arange(num_frames) / fps
    spoken, accents = speech(rng, times) if rng.random() < 0.92 else (np.zeros((num_frames, NUM_ACTIONS)), [])
    if tracks and rng.random() < 0.6:
        angles, travel = _replay_pose(rng, tracks, times)
    else:
        angles, travel = head_motion(rng, times, accents)
    angles, travel = (
        soft_limit(angles + _mean_pose(rng), np.array(MOST_DEGREES)),
        soft_limit(travel, np.array(MOST_TRAVEL)),
    )
    if tracks and rng.random() < 0.7:
        actions = _replay_face(rng, tracks, times)
        if rng.random() < 0.5:
            actions[:, MOUTH] = spoken[:, MOUTH]
        if rng.random() < 0.5:
            actions[:, GAZE] = gaze(rng, times, angles)[:, GAZE]
    else:
        actions = spoken + mood_expression(rng, times, accents) + blinks(rng, times) + gaze(rng, times, angles)
    actions = with_expressions(rng, times, np.clip(actions, 0, 1))
    return _limited(fps, actions, angles, travel)


def _mean_pose(rng: np.random.Generator) -> Float[np.ndarray, " angles"]:
    """Draw the mean pose of a clip: mostly towards the camera, in a quarter of the clips up to three-quarter view."""
    yaw = rng.uniform(-32, 32) if rng.random() < 0.25 else rng.normal(0, 9)
    return np.array([yaw, rng.normal(0, 4), rng.normal(0, 3)])


@dataclass(frozen=True, eq=False)
class _Piece:
    """A piece of a track to replay: the position in the track and the blending weight of each frame."""

    track: Track
    mirrored: bool
    positions: Float[np.ndarray, " frames"]
    weights: Float[np.ndarray, "frames 1"]

    def sample(self, values: Float[np.ndarray, "_ channels"]) -> Float[np.ndarray, "frames channels"]:
        whole = np.clip(self.positions.astype(int), 0, max(0, len(values) - 2))
        share = np.clip(self.positions - whole, 0, 1)[:, None]
        following = np.minimum(whole + 1, len(values) - 1)
        return np.asarray(self.weights * (values[whole] * (1 - share) + values[following] * share))


def _pieces(rng: np.random.Generator, tracks: Sequence[Track], times: Float[np.ndarray, " frames"]) -> Iterator[_Piece]:
    """Yield pieces that cross-fade; their weights sum to 1 in every frame."""
    chances = np.sqrt([len(track) for track in tracks])  # prefer long tracks, which are the calmest
    begin, weight = float(times[0]), np.ones(len(times))
    while True:
        track = tracks[int(rng.choice(len(tracks), p=chances / chances.sum()))]
        rate = TRACK_FPS * rng.uniform(*_TEMPO)
        seconds = min(float(rng.uniform(*_PIECE_S)), (len(track) - 1) / rate - _FADE_S)
        first = rng.uniform(0, max(0.0, len(track) - 1 - (seconds + _FADE_S) * rate))
        positions = np.clip(first + (times - begin) * rate, 0, len(track) - 1)
        begin += max(seconds, _FADE_S)
        following = ease((times - begin) / _FADE_S)
        yield _Piece(track, bool(rng.random() < 0.5), positions, (weight - following)[:, None])
        weight = following
        if begin >= times[-1]:
            return


def _replay_face(
    rng: np.random.Generator, tracks: Sequence[Track], times: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames 52"]:
    actions = np.zeros((len(times), NUM_ACTIONS))
    scale = np.full(NUM_ACTIONS, rng.uniform(0.75, 1.3))
    scale[[*LIDS, *GAZE]] = 1.0
    for piece in _pieces(rng, tracks, times):
        values = piece.track.actions
        actions += piece.sample(values[:, MIRRORED] if piece.mirrored else values) * scale
    return actions


def _replay_pose(
    rng: np.random.Generator, tracks: Sequence[Track], times: Float[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames 3"]]:
    pose = np.zeros((len(times), 6))
    scale = rng.uniform(0.6, 1.5)
    for piece in _pieces(rng, tracks, times):
        values = np.concatenate([piece.track.angles, piece.track.travel], axis=1)
        pose += piece.sample(values * _MIRRORED_POSE if piece.mirrored else values) * scale
    return pose[:, :3], pose[:, 3:]


def _limited(
    fps: float,
    actions: Float[np.ndarray, "frames 52"],
    angles: Float[np.ndarray, "frames 3"],
    travel: Float[np.ndarray, "frames 3"],
) -> Motion:
    speeds = np.full(NUM_ACTIONS, ACTIONS_PER_S)
    speeds[GAZE], speeds[LIDS] = GAZE_PER_S, LIDS_PER_S
    return Motion(
        fps,
        np.clip(limit_speed(actions, speeds / fps), 0, 1).astype(np.float32),
        limit_speed(angles, np.full(3, DEGREES_PER_S / fps)).astype(np.float32),
        limit_speed(travel, np.full(3, TRAVEL_PER_S / fps)).astype(np.float32),
    )
