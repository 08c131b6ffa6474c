"""Motion from life: what faces in the real clips of the assets do, measured once and kept in the assets' cache."""

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

_VERSION = 3  # of the way tracks are measured: a new one is measured again
_LEAST_SECONDS = 1.0
_CUT = 0.25  # widths of the face by which points jump from one frame to the next only when it is another scene
_REST_PERCENTILE = 5.0
_SHUT = 0.62  # what MediaPipe says of a shut eye: at 0.6 to 0.7 the lids of the clips are 80 to 95 % closed
_NECK_CM = (10.0, 3.0)
_HEAD_WIDTH_CM = float(np.ptp(CANONICAL_LANDMARKS[JAW, 0]))


@dataclass(frozen=True, eq=False)
class Track:
    """What one face did for a while, at 25 frames a second, as deviations from how it usually was.

    Actions are 0..1 and 0 at rest; angles (yaw, pitch, roll) in degrees with the signs of `head.Pose`; travel as
    `motion.Motion` has it.
    """

    name: str
    actions: Float32[np.ndarray, "frames 52"]
    angles: Float32[np.ndarray, "frames 3"]
    travel: Float32[np.ndarray, "frames 3"]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, eq=False)
class Reading:
    """One frame of a clip as MediaPipe sees it: seconds, blendshapes in the order of ACTIONS, the 68 points."""

    seconds: float
    actions: Float[np.ndarray, " actions"]
    points: Float[np.ndarray, "68 2"]


def load_tracks(names: Sequence[str] = CLIPS) -> tuple[Track, ...]:
    """The tracks of real clips, by the names of their assets; measured on first use (40 s of one core), then cached.

    Raises:
        AssetError: a clip or MediaPipe's landmarker cannot be fetched.
    """
    inputs = [assets.find(name).sha256 for name in (*names, "face_landmarker")]
    file = assets.cache_folder() / "motion" / f"tracks-{digest_of([_VERSION, inputs])[:16]}.npz"
    with assets.locked(file.name):
        try:
            return _unpack(file.read_bytes())
        except (FileNotFoundError, ValueError):
            pass  # measured for the first time, or the file is damaged
        paths = assets.fetch_many([*names, "face_landmarker"])
        tracks = _measure({name: paths[name] for name in names})
        storage.write_bytes(str(file), _pack(tracks))
    return tracks


def tracks_digest(tracks: Sequence[Track]) -> str:
    """Hex sha256 of what the tracks hold: equal digests give equal motion."""
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
    """The tracks of one clip: cut where no face is found or the scene changes, freed of the face's own resting values.

    Blendshapes of a neutral face are rarely 0: the low percentile of each action in the clip becomes 0. People mostly
    look at the camera and hold their head somewhere: the median gaze, pose and place become 0.
    """
    pieces = [piece for piece in _pieces(readings) if piece[-1].seconds - piece[0].seconds >= _LEAST_SECONDS]
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
    freed = np.clip(actions, 0, 1)
    # MediaPipe trembles from frame to frame. Lids are left as they are: a blink is a few frames long.
    calm, steady = smooth(freed, 0.7), smooth(steered, 1.0)
    calm[:, LIDS] = np.clip(freed[:, LIDS] / _SHUT, 0, 1)
    calm[:, GAZE] = gaze_to_actions(steered[:, 6:])[:, GAZE]
    angles, travel = steady[:, :3], steady[:, 3:6]
    travel[:, :2] -= _neck_travel(angles)
    return Track(name, *(part.astype(np.float32) for part in (calm, angles, travel)))


def _neck_travel(angles: Float[np.ndarray, "frames 3"]) -> Float[np.ndarray, "frames 2"]:
    """How far a head's middle travels because it turns on its neck, 10 cm below and 3 cm behind it."""
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
    """Actions; and yaw, pitch, roll, right, down, nearer, gaze to the picture's right, gaze up; all interpolated."""
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
    """The tracks in numpy's container, numbers and names only."""
    sink = io.BytesIO()
    parts = {
        f"{number}.{part}": getattr(track, part)
        for number, track in enumerate(tracks)
        for part in ("actions", "angles", "travel")
    }
    np.savez(sink, allow_pickle=False, names=np.array([track.name for track in tracks], dtype=np.str_), **parts)
    return sink.getvalue()


def _unpack(data: bytes) -> tuple[Track, ...]:
    """Raises ValueError for what is no such container, or a damaged one."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            return tuple(
                Track(str(name), *(parts[f"{number}.{part}"] for part in ("actions", "angles", "travel")))
                for number, name in enumerate(parts["names"])
            )
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ValueError(f"damaged tracks: {error}") from error
