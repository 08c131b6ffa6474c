"""Motion files: a driver's track, with its pose and actions, as one Parquet file.

One row a frame: `time` (s), `found`, `yaw`, `pitch`, `roll` (degrees in the picture), `scale` (pixels per centimetre),
`x`, `y` (pixels), the 52 actions by name (relative to the film's neutral frame), `landmarks` (68 x, y in pixels) and
`gaze` (2 x, y; NaN where unknown). The file's metadata hold `sfumato_motion` (the version), `detector`, `fps` and
`constant`; `head` is `canonical` for motion that comes from no film, `exact` says whether it has no noise, and `adds`
whether its expression is added to the portrait's.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.faces.head_pose import NUM_LANDMARKS, fit_pose
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import ACTIONS
from training.animation.driver_track import DriverTrack
from training.animation.motion.face_motion import canonical_rest
from training.animation.motion.fit_actions import fit_actions

VERSION = "1"
_KEY = b"sfumato_motion"
_POSE = ("yaw", "pitch", "roll", "scale", "x", "y")
_MIN_EXTENT, _MAX_PIXELS = 1e-3, 1e6  # of a face, pixels
_LANDMARKS, _GAZE = 2 * NUM_LANDMARKS, 4

SCHEMA = pa.schema(
    [
        pa.field("time", pa.float64()),
        pa.field("found", pa.bool_()),
        *(pa.field(name, pa.float32()) for name in (*_POSE, *ACTIONS)),
        pa.field("landmarks", pa.list_(pa.float32(), _LANDMARKS)),
        pa.field("gaze", pa.list_(pa.float32(), _GAZE)),
    ]
)


def write_motion(track: DriverTrack, out: str, neutral_frame: int | None = None) -> None:
    """Write a track of a film to `out` (path or URL).

    Args:
        neutral_frame: the frame that the actions are relative to; None: found.
    """
    pose = fit_pose(track.landmarks)
    columns: dict[str, Any] = {"time": track.times.seconds, "found": track.found}
    columns |= {"yaw": pose.yaw, "pitch": pose.pitch, "roll": pose.roll, "scale": pose.scale}
    columns |= {"x": pose.translation[:, 0], "y": pose.translation[:, 1]}
    columns |= dict(zip(ACTIONS, fit_actions(track, neutral_frame).actions.T, strict=True))
    arrays = [pa.array(np.asarray(values), SCHEMA.field(name).type) for name, values in columns.items()]
    for values, width in ((track.landmarks, _LANDMARKS), (track.gaze, _GAZE)):
        arrays.append(pa.FixedSizeListArray.from_arrays(np.asarray(values, np.float32).ravel(), width))
    metadata = {
        _KEY: VERSION.encode(),
        b"detector": track.detector.encode(),
        b"fps": str(track.times.fps).encode(),
        b"constant": _flag(track.times.constant),
        b"head": b"own" if track.rest is None else b"canonical",
        b"exact": _flag(track.exact),
        b"adds": _flag(track.adds),
    }
    with storage.atomic_write(out) as sink:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata)), sink, compression="zstd")


def read_motion_file(path: Path) -> DriverTrack:
    """Read the track that `write_motion` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no motion file, or of another version, or damaged; the message is one line.
    """
    try:
        file = pq.ParquetFile(path)
        metadata = file.schema_arrow.metadata or {}
        if _KEY not in metadata:
            raise ValueError(f"{path} is no motion file: a Parquet file without {_KEY.decode()!r} in its metadata")
        if metadata[_KEY] != VERSION.encode():
            said = metadata[_KEY].decode(errors="replace")
            raise ValueError(f"{path} is a motion file of version {said}, not {VERSION}")
        names = ["time", "found", "landmarks", "gaze"]
        for name in names:
            if name not in file.schema_arrow.names or file.schema_arrow.field(name).type != SCHEMA.field(name).type:
                raise ValueError(f"{path}: the column {name} is missing or not {SCHEMA.field(name).type}")
        table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is no motion file: no Parquet file that can be read") from error
    return _track(path, table, metadata)


def _track(path: Path, table: pa.Table, metadata: dict[bytes, bytes]) -> DriverTrack:
    if not table.num_rows:
        raise ValueError(f"{path} holds no frame")
    if any(column.null_count for column in table.columns):
        raise ValueError(f"{path}: a column holds no value in some frame")
    seconds = table["time"].to_numpy()
    found = table["found"].to_numpy()
    landmarks = table["landmarks"].combine_chunks().flatten().to_numpy().reshape(-1, NUM_LANDMARKS, 2)
    gaze = table["gaze"].combine_chunks().flatten().to_numpy().reshape(-1, 2, 2)
    fps = metadata.get(b"fps", b"").decode(errors="replace")
    if not re.fullmatch(r"[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?", fps):
        raise ValueError(f"{path}: its fps {fps!r} is no rate")
    if not np.isfinite(landmarks).all() or len(landmarks) != len(seconds):
        raise ValueError(f"{path}: landmarks that are no numbers")
    extents = np.ptp(landmarks, axis=1) if len(landmarks) else np.ones((1, 2))
    if extents.min() < _MIN_EXTENT or np.abs(landmarks).max() > _MAX_PIXELS:
        raise ValueError(f"{path}: landmarks that are no face, in pixels")
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise ValueError(f"{path}: its times do not ascend")
    constant = metadata.get(b"constant") == _flag(True)
    detector = metadata.get(b"detector", b"").decode(errors="replace")
    times = FrameTimes(seconds, Fraction(fps), constant)
    rest = canonical_rest() if metadata.get(b"head") == b"canonical" else None
    exact = metadata.get(b"exact") == _flag(True)
    adds = metadata[b"adds"] == _flag(True) if b"adds" in metadata else exact
    return DriverTrack(landmarks, gaze, found, times, detector, rest, exact, adds)


def _flag(value: bool) -> bytes:
    return b"true" if value else b"false"
