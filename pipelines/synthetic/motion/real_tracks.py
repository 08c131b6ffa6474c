"""Motion tracks of the faces in the assets' real clips, measured once and kept in the assets' cache."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from pipelines import assets, storage
from pipelines.cli import console, progress
from pipelines.dataset.schema import digest_of
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, JAW, fit_pose
from pipelines.faces.mediapipe_detector import BlendshapeReader
from pipelines.media import video
from pipelines.synthetic.head.arkit_actions import (
    GAZE,
    LIDS,
    NUM_ACTIONS,
    action_index,
    actions_to_gaze,
    gaze_to_actions,
)
from pipelines.synthetic.motion.curves import smooth

CLIPS = ("clip_langer", "clip_single_face", "clip_carphone", "clip_cap12", "clip_cap13")
TRACK_FPS = 25.0

_VERSION = 3  # changes when tracks are measured differently, which invalidates the cache
_MIN_SECONDS = 1.0
_CUT = 0.25  # mean landmark displacement between frames, in face widths, that means a scene cut
_REST_PERCENTILE = 5.0
_SHUT = 0.62  # MediaPipe's eyeBlink of a closed eye: at 0.6 to 0.7 the lids in the clips are 80 to 95 % closed
_NECK_CM = (10.0, 3.0)
_HEAD_WIDTH_CM = float(np.ptp(CANONICAL_LANDMARKS[JAW, 0]))


@dataclass(frozen=True, eq=False)
class Track:
    """The motion of one face at 25 frames per second, relative to its resting expression and median pose.

    Actions are 0..1 and 0 at rest; angles (yaw, pitch, roll) in degrees with the signs of `head.Pose`; travel as
    in `motion.Motion`.
    """

    name: str
    actions: Float32[np.ndarray, "frames 52"]
    angles: Float32[np.ndarray, "frames 3"]
    travel: Float32[np.ndarray, "frames 3"]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, eq=False)
class Reading:
    """MediaPipe's result for one frame: time, blendshapes in the order of ACTIONS, 68 landmarks."""

    seconds: float
    actions: Float[np.ndarray, " actions"]
    points: Float[np.ndarray, "68 2"]


def load_tracks(names: Sequence[str] = CLIPS) -> tuple[Track, ...]:
    """Return the tracks of real clips, by asset name; measured on first use (40 s on one core), then cached.

    Raises:
        AssetError: a clip or MediaPipe's landmarker cannot be fetched.
    """
    inputs = [assets.find(name).sha256 for name in (*names, "face_landmarker")]
    file = assets.cache_folder() / "motion" / f"tracks-{digest_of([_VERSION, inputs])[:16]}.npz"
    if (known := _stored(file)) is not None:
        return known
    with assets.locked(file.name):
        if (known := _stored(file)) is not None:
            return known
        paths = assets.fetch_many([*names, "face_landmarker"])
        tracks = _measure({name: paths[name] for name in names})
        storage.write_bytes(str(file), _pack(tracks))
    return tracks


def _stored(file: Path) -> tuple[Track, ...] | None:
    """Return the tracks of a file; None where they are not measured yet, or the file is damaged."""
    try:
        return _unpack(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def tracks_digest(tracks: Sequence[Track]) -> str:
    """Return the hex sha256 of the tracks' values: equal digests give equal motion."""
    digest = hashlib.sha256()
    for track in tracks:
        for part in (track.actions, track.angles, track.travel):
            digest.update(np.ascontiguousarray(part, "<f4").tobytes())
    return digest.hexdigest()


def _measure(paths: dict[str, Path]) -> tuple[Track, ...]:
    tracks: list[Track] = []
    reader = BlendshapeReader()
    console().print(f"measuring the motion in {len(paths)} real clips, once")
    with progress() as bars:
        bar = bars.add_task("motion", total=sum(video.probe(path).num_frames for path in paths.values()))
        for name, path in paths.items():
            readings = _read(path, reader, functools.partial(bars.advance, bar))
            tracks += make_tracks(name, readings)
    return tuple(tracks)


def _read(path: Path, reader: BlendshapeReader, advance: Callable[[], None]) -> Iterator[Reading | None]:
    for frame in video.decode(path):
        found = reader.read(frame.image)
        advance()
        if found is None:
            yield None
            continue
        shapes, face = found
        actions = np.zeros(NUM_ACTIONS)
        for name, score in shapes.items():
            if name != "_neutral":
                actions[action_index(name)] = score
        yield Reading(frame.pts_us / 1e6, actions, face.landmarks)


def make_tracks(name: str, readings: Iterator[Reading | None]) -> list[Track]:
    """Make the tracks of one clip. Tracks end where no face is found or the scene changes.

    Blendshapes of a neutral face are rarely 0, so the 5th percentile of each action in the clip becomes 0. The median
    gaze, pose and position become 0.
    """
    pieces = [piece for piece in _pieces(readings) if piece[-1].seconds - piece[0].seconds >= _MIN_SECONDS]
    if not pieces:
        return []
    resampled = [_resample(piece) for piece in pieces]
    rest = np.percentile(np.concatenate([actions for actions, _ in resampled]), _REST_PERCENTILE, axis=0)
    middle = np.median(np.concatenate([steered for _, steered in resampled]), axis=0)
    return [
        _make_track(f"{name}/{number}", (actions - rest) / (1 - rest), steered - middle)
        for number, (actions, steered) in enumerate(resampled)
    ]


def _make_track(name: str, actions: Float[np.ndarray, "frames 52"], steered: Float[np.ndarray, "frames 8"]) -> Track:
    rested = np.clip(actions, 0, 1)
    # Smooth MediaPipe's jitter, except on the lids: a blink lasts only a few frames.
    calm, steady = smooth(rested, 0.7), smooth(steered, 1.0)
    calm[:, LIDS] = np.clip(rested[:, LIDS] / _SHUT, 0, 1)
    calm[:, GAZE] = gaze_to_actions(steered[:, 6:])[:, GAZE]
    angles, travel = steady[:, :3], steady[:, 3:6]
    travel[:, :2] -= _neck_travel(angles)
    return Track(name, *(part.astype(np.float32) for part in (calm, angles, travel)))


def _neck_travel(angles: Float[np.ndarray, "frames 3"]) -> Float[np.ndarray, "frames 2"]:
    """Return the translation of the head's centre by its rotation on the neck, 10 cm below and 3 cm behind it."""
    yaw, pitch, roll = np.sin(np.radians(angles)).T
    below, behind = (centimetres / _HEAD_WIDTH_CM for centimetres in _NECK_CM)
    return np.stack([below * roll + behind * yaw, -behind * pitch], axis=-1)


def _pieces(readings: Iterator[Reading | None]) -> Iterator[list[Reading]]:
    piece: list[Reading] = []
    for reading in readings:
        if piece and (reading is None or _jumped(piece[-1], reading)):
            yield piece
            piece = []
        if reading is not None:
            piece.append(reading)
    if piece:
        yield piece


def _jumped(before: Reading, after: Reading) -> bool:
    width = float(np.ptp(before.points[:, 0]))
    return float(np.linalg.norm(after.points - before.points, axis=1).mean()) > _CUT * width


def _resample(piece: Sequence[Reading]) -> tuple[Float[np.ndarray, "frames 52"], Float[np.ndarray, "frames 8"]]:
    """Resample at 25 fps: actions; and yaw, pitch, roll, right, down, nearer, gaze to the picture's right, gaze up."""
    pose = fit_pose(np.stack([reading.points for reading in piece]).astype(np.float64))
    actions = np.stack([reading.actions for reading in piece])
    place = pose.translation / np.median(pose.scale * _HEAD_WIDTH_CM)
    head = np.stack([pose.yaw, pose.pitch, pose.roll, *place.T, np.log(pose.scale)], axis=-1)
    columns = [actions, head, actions_to_gaze(actions)]
    seconds = np.array([reading.seconds for reading in piece])
    grid = np.arange(seconds[0], seconds[-1] + 1e-6, 1 / TRACK_FPS)
    even = np.stack([np.interp(grid, seconds, column) for column in np.concatenate(columns, axis=1).T], axis=-1)
    return even[:, :NUM_ACTIONS], even[:, NUM_ACTIONS:]


def _pack(tracks: Sequence[Track]) -> bytes:
    """Pack the tracks into an npz file without pickles."""
    sink = io.BytesIO()
    parts = {
        f"{number}.{part}": getattr(track, part)
        for number, track in enumerate(tracks)
        for part in ("actions", "angles", "travel")
    }
    np.savez(sink, allow_pickle=False, names=np.array([track.name for track in tracks], dtype=np.str_), **parts)
    return sink.getvalue()


def _unpack(data: bytes) -> tuple[Track, ...]:
    """Unpack an npz file of tracks. Raises ValueError when it is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            return tuple(
                Track(str(name), *(parts[f"{number}.{part}"] for part in ("actions", "angles", "travel")))
                for number, name in enumerate(parts["names"])
            )
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ValueError(f"damaged tracks: {error}") from error
