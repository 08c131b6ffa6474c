"""Validate a shard's part and compare it with its index, frame by frame, one row group in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from pipelines.curation.findings import Note
from pipelines.dataset import schema
from pipelines.dataset.reader import plain_chunks
from pipelines.dataset.schema import LANDMARK_BYTES
from pipelines.faces.head_pose import NUM_LANDMARKS
from pipelines.media.images import decode_jpeg
from pipelines.planning.plan_file import ClipNames

LANDMARK_SLACK = 0.25
"""How far outside the crop a landmark may lie, in units of the crop's side; some do in profile views."""

_LISTS = [f.name for f in schema.CLIP_SCHEMA if str(f.type).startswith("list<")]
_SHARED = [name for name in schema.INDEX_SCHEMA.names if name in _LISTS]
_NUMBERS = (*schema.FRAME_SCORES, *schema.FRAME_MEASURES)


@dataclass
class _Faults:
    """Faults of frames, grouped by file and kind: their number, and the first as an example."""

    found: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def add(self, file: str, kind: str, example: str, number: int = 1) -> None:
        earlier = self.found.get((file, kind))
        self.found[file, kind] = (number, example) if earlier is None else (earlier[0] + number, earlier[1])

    def tell(self, note: Note) -> None:
        for (file, kind), (number, example) in self.found.items():
            note(file, f"{kind}: {example}" + (f" (and {number - 1} more)" if number > 1 else ""))


@dataclass(frozen=True)
class _Group:
    """One row group: its clips and their per-frame data."""

    keys: Sequence[ClipNames]
    lengths: Int64[np.ndarray, " clips"]
    jpegs: Any
    landmarks: Float32[np.ndarray, "frames 136"]
    columns: Mapping[str, Any]

    @property
    def num_frames(self) -> int:
        return int(self.lengths.sum())

    def owner(self, frame: int) -> ClipNames:
        """Return the clip that a frame of the group belongs to."""
        return self.keys[int(np.searchsorted(np.cumsum(self.lengths), frame, side="right"))]

    def name(self, frame: int) -> str:
        return f"frame {int(self.columns['frame_index'][frame])} of {'/'.join(self.owner(frame))}"


def check_part(
    file: Any,
    path: Path,
    index: Any,
    names: tuple[str, str],
    size: int,
    decode: bool,
    note: Note,
) -> dict[ClipNames, int]:
    """Check a part (an open ParquetFile of the right schema) and its index (a table, or None if it is missing).

    Returns the clips in order, each with its number of frames.

    Args:
        path: the part as a local file, for byte ranges.
        names: of the part and of its index, relative to the data set.
        size: side of the crops in pixels.
        decode: decode every JPEG.

    Raises:
        OSError, ValueError: a row group cannot be read.
    """
    part_name, index_name = names
    faults, clips, videos = _Faults(), dict[ClipNames, int](), set[str]()
    try:
        plain_chunks(file.metadata)
    except ValueError as error:
        note(part_name, f"encodings: {error}")
    at = 0
    for number in range(file.metadata.num_row_groups):
        table = file.read_row_group(number)
        _check_grouping(table, number, videos, part_name, faults)
        group = _group(table, part_name, faults)
        _add_clips(clips, group, part_name, faults)
        if group.jpegs is not None:
            _check_frames(group, size, decode, part_name, faults)
            if index is not None and at + group.num_frames <= index.num_rows:
                _check_index(group, index.slice(at, group.num_frames), at, path, names, faults)
        at += group.num_frames
    if index is not None and index.num_rows != at:
        note(index_name, f"rows: expected {at}, one per frame of the part, found {index.num_rows}")
    faults.tell(note)
    return clips


def _add_clips(clips: dict[ClipNames, int], group: _Group, part_name: str, faults: _Faults) -> None:
    for key, length in zip(group.keys, group.lengths.tolist(), strict=True):
        if key in clips:
            faults.add(part_name, "keys", f"{'/'.join(key)} is in this shard twice")
        clips[key] = length


def _check_grouping(table: Any, number: int, videos: set[str], part_name: str, faults: _Faults) -> None:
    here = {f"{i}/{v}" for i, v in zip(*(table.column(c).to_pylist() for c in ("identity", "video")), strict=True)}
    if len(here) != 1:
        faults.add(part_name, "row groups", f"group {number} holds {len(here)} source videos, expected one")
    if repeated := sorted(here & videos):
        faults.add(part_name, "row groups", f"video {repeated[0]} is in more than one")
    videos |= here


def _group(table: Any, part_name: str, faults: _Faults) -> _Group:
    keys = list(zip(*(table.column(name).to_pylist() for name in schema.KEY_COLUMNS), strict=True))
    lengths = {name: pc.list_value_length(table.column(name)).to_numpy().astype(np.int64) for name in _LISTS}
    frames = lengths["frame_jpeg"]
    uneven = False
    for i, key in enumerate(keys):
        if len({int(values[i]) for values in lengths.values()}) > 1:
            uneven = True
            different = ", ".join(f"{name} {int(values[i])}" for name, values in lengths.items())
            faults.add(part_name, "lists of unequal length", f"{'/'.join(key)}: {different}")
    if uneven:
        return _Group(keys, frames, None, np.zeros((0, NUM_LANDMARKS * 2), np.float32), {})
    columns = {name: pc.list_flatten(table.column(name)).to_numpy() for name in (*_SHARED, *_NUMBERS)}
    points = pc.list_flatten(pc.list_flatten(table.column("landmarks"))).to_numpy()
    jpegs = pc.list_flatten(table.column("frame_jpeg"))
    return _Group(keys, frames, jpegs, points.astype(np.float32).reshape(-1, NUM_LANDMARKS * 2), columns)


def _check_frames(group: _Group, size: int, decode: bool, part_name: str, faults: _Faults) -> None:
    """Check that landmarks lie in the crop, numbers are finite, frames ascend and images decode."""
    slack = LANDMARK_SLACK * size
    finite = np.isfinite(group.landmarks).all(axis=1)
    with np.errstate(invalid="ignore"):
        inside = ((group.landmarks >= -slack) & (group.landmarks <= size - 1 + slack)).all(axis=1)
    for frame in _where(~finite):
        faults.add(part_name, "landmarks that are no numbers", group.name(frame))
    for frame in _where(finite & ~inside):
        low, high = group.landmarks[frame].min(), group.landmarks[frame].max()
        example = (
            f"{group.name(frame)}: from {low:.1f} to {high:.1f} px, allowed {-slack:.1f} to {size - 1 + slack:.1f}"
        )
        faults.add(part_name, "landmarks outside the crop", example)
    for name in _NUMBERS:
        for frame in _where(~np.isfinite(group.columns[name])):
            faults.add(part_name, f"{name} that is no number", group.name(frame))
    start = 0
    for key, length in zip(group.keys, group.lengths.tolist(), strict=True):
        for name in schema.FRAME_TIMES:
            steps = np.diff(group.columns[name][start : start + length])
            if (steps <= 0).any():
                i = start + int(np.argmax(steps <= 0))
                values = group.columns[name][i : i + 2]
                faults.add(part_name, f"{name} that does not ascend", f"{'/'.join(key)}: {values[0]}, then {values[1]}")
        start += length
    if decode:
        for frame, jpeg in enumerate(_pictures(group)):
            if wrong := _picture_fault(jpeg, size):
                faults.add(part_name, "pictures", f"{group.name(frame)}: {wrong}")


def _picture_fault(jpeg: bytes, size: int) -> str:
    try:
        height, width = decode_jpeg(jpeg).shape[:2]
    except ValueError as error:
        return str(error)
    return "" if (height, width) == (size, size) else f"expected {size} x {size} px, found {width} x {height}"


def _pictures(group: _Group) -> Iterator[bytes]:
    for scalar in group.jpegs:
        yield scalar.as_py()


def _check_index(group: _Group, index: Any, at: int, path: Path, names: tuple[str, str], faults: _Faults) -> None:
    """Compare the index rows of one group with the group, and their byte ranges with the file."""
    part_name, index_name = names
    rows = {name: index.column(name).to_numpy() for name in index.column_names}
    keys = list(zip(rows["identity"], rows["video"], rows["clip"], strict=True))
    expected = {**group.columns, "jpeg_length": pc.binary_length(group.jpegs).to_numpy()}
    for name, values in expected.items():
        if name not in rows:
            continue
        if differing := _where(~_same(rows[name], values)):
            example = f"row {at + differing[0]}: expected {values[differing[0]]}, found {rows[name][differing[0]]}"
            faults.add(index_name, f"{name} differs from the part's", example, len(differing))
    for name in schema.INDEX_MEASURES:
        for i in _where(~np.isfinite(rows[name])):
            faults.add(index_name, f"{name} that is no number", f"row {at + i}")
    with path.open("rb") as data:
        for i, jpeg in enumerate(_pictures(group)):
            row = f"row {at + i}"
            if keys[i] != group.owner(i):
                example = f"{row}: expected {'/'.join(group.owner(i))}, found {'/'.join(keys[i])}"
                faults.add(index_name, "keys differ from the part's", example)
            offset, length = int(rows["jpeg_offset"][i]), int(rows["jpeg_length"][i])
            if _range(data, offset, length) != jpeg:
                example = f"{row}: {length} bytes at {offset} are not {group.name(i)}"
                faults.add(index_name, "byte ranges of pictures", example)
            if (found := crc32c.crc32c(jpeg)) != rows["jpeg_crc32c"][i]:
                example = f"{group.name(i)}: crc32c: expected {rows['jpeg_crc32c'][i]}, found {found}"
                faults.add(part_name, "damaged pictures", example)
            offset = int(rows["landmarks_offset"][i])
            if _range(data, offset, LANDMARK_BYTES) != group.landmarks[i].astype("<f4").tobytes():
                example = f"{row}: {LANDMARK_BYTES} bytes at {offset} are not those of {group.name(i)}"
                faults.add(index_name, "byte ranges of landmarks", example)


def _where(fault: Any) -> list[int]:
    positions: list[int] = np.flatnonzero(fault).tolist()
    return positions


def _same(found: Any, expected: Any) -> Any:
    if found.dtype.kind == "f":
        return (found == expected) | (np.isnan(found) & np.isnan(expected))
    return found == expected


def _range(data: Any, offset: int, length: int) -> bytes:
    size = os.fstat(data.fileno()).st_size
    if not 0 <= offset <= size or not 0 <= length <= size - offset:
        return b""
    data.seek(offset)
    return bytes(data.read(length))
