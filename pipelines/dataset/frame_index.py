"""The frames of a split as numpy columns, 36 bytes per frame: 17 million fit in memory, and a video is a slice."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt32

from pipelines.cli import progress
from pipelines.dataset import schema
from pipelines.dataset.index_file import IndexFile, check_footer, read_columns

_THREADS = 16  # opening a shard on an object store is mostly waiting


@dataclass(frozen=True, slots=True)
class FrameRef:
    """The location of one frame: its JPEG and its 68 landmarks (136 float32) as byte ranges of `url`."""

    url: str
    jpeg_offset: int
    jpeg_length: int
    jpeg_crc32c: int
    landmarks_offset: int
    clip: str
    frame_index: int


@dataclass(frozen=True, eq=False)
class FrameColumns:
    """One row per frame; the rows of a video are contiguous."""

    urls: tuple[str, ...]
    """URLs of the shards; `shard` holds positions in it."""
    clip_names: tuple[str, ...]
    """Names of the clips; `clip` holds positions in it."""
    shard: Int32[np.ndarray, "frames"]
    clip: Int32[np.ndarray, "frames"]
    frame_index: Int32[np.ndarray, "frames"]
    jpeg_offset: Int64[np.ndarray, "frames"]
    jpeg_length: Int32[np.ndarray, "frames"]
    jpeg_crc32c: UInt32[np.ndarray, "frames"]
    landmarks_offset: Int64[np.ndarray, "frames"]

    def frame(self, row: int) -> FrameRef:
        """Return the frame of one row."""
        return FrameRef(
            url=self.urls[self.shard[row]],
            jpeg_offset=int(self.jpeg_offset[row]),
            jpeg_length=int(self.jpeg_length[row]),
            jpeg_crc32c=int(self.jpeg_crc32c[row]),
            landmarks_offset=int(self.landmarks_offset[row]),
            clip=self.clip_names[self.clip[row]],
            frame_index=int(self.frame_index[row]),
        )


# By the types' names: Arrow's own conversion imports pandas, which not every stage installs.
_NUMBERS = {
    name: np.dtype(str(schema.INDEX_SCHEMA.field(name).type)).type for name in ("frame_index", *schema.FRAME_RANGES)
}


class Frames(Sequence[FrameRef]):
    """Rows `start` to `stop` - 1 of the columns as a sequence of FrameRef, created on access."""

    __slots__ = ("columns", "start", "stop")

    def __init__(self, columns: FrameColumns, start: int, stop: int) -> None:
        self.columns, self.start, self.stop = columns, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, position: int) -> FrameRef: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[FrameRef, ...]: ...
    def __getitem__(self, position: int | slice) -> FrameRef | tuple[FrameRef, ...]:
        rows = range(self.start, self.stop)[position]
        if isinstance(rows, range):
            return tuple(self.columns.frame(row) for row in rows)
        return self.columns.frame(rows)

    def __iter__(self) -> Iterator[FrameRef]:
        return map(self.columns.frame, range(self.start, self.stop))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frames({len(self)} frames)"


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """All frames of one source video, clip by clip, in order. `video_id` is identity/video."""

    video_id: str
    identity: str
    frames: Sequence[FrameRef]

    @property
    def url(self) -> str:
        """The shard of its first frame, and nearly always of all of them."""
        return self.frames[0].url


@dataclass(frozen=True)
class _ShardNames:
    """The strings of one shard's index; `runs` are (identity, video, first row, end) of consecutive rows of a video."""

    clips: list[str]
    runs: list[tuple[str, str, int, int]]


def read_videos(files: Sequence[IndexFile]) -> tuple[SourceVideo, ...]:
    """Return the videos of some shards, ordered by id, each with its frames in the shards' order.

    Raises:
        ValueError: a shard whose frames are not byte ranges, or a broken index.
        FileNotFoundError: one of the files is missing.
    """
    bases = [0, *itertools.accumulate(file.num_frames for file in files)]
    # Allocate whole columns and let every shard fill its part: concatenating pieces would take twice the memory.
    columns: dict[str, np.ndarray] = {
        name: np.empty(bases[-1], kind) for name, kind in (("clip", np.int32), *_NUMBERS.items())
    }

    def read(file: IndexFile, base: int) -> _ShardNames:
        check_footer(file)
        return _read_index(
            file, base, {name: column[base : base + file.num_frames] for name, column in columns.items()}
        )

    names = []
    with progress() as bar, ThreadPoolExecutor(_THREADS, "index") as pool:
        task = bar.add_task("reading indexes", total=len(files))
        for shard_names in pool.map(read, files, bases[:-1]):
            names.append(shard_names)
            bar.advance(task)
    return _arrange(files, bases, columns, names)


def _read_index(file: IndexFile, base: int, columns: Mapping[str, Any]) -> _ShardNames:
    table = read_columns(file, [*_NUMBERS])
    for name in columns:
        columns[name][:] = table.numbers[name]
    runs = table.runs("identity", "video")
    names = (*(table.key_values(name, [start for start, _ in runs]) for name in ("identity", "video")), runs)
    return _ShardNames(
        table.names["clip"],
        [(who, video, start + base, end + base) for who, video, (start, end) in zip(*names, strict=True)],
    )


def _arrange(
    files: Sequence[IndexFile], bases: Sequence[int], columns: dict[str, Any], names: Sequence[_ShardNames]
) -> tuple[SourceVideo, ...]:
    """Sort the rows so that the frames of each video are contiguous, one column at a time."""
    if not files:
        return ()
    numbers: dict[str, int] = {}
    for shard_names, base, end in zip(names, bases, bases[1:], strict=False):
        ours = [numbers.setdefault(name, len(numbers)) for name in shard_names.clips]
        columns["clip"][base:end] = np.array(ours, np.int32)[columns["clip"][base:end]]
    columns["shard"] = np.repeat(np.arange(len(files), dtype=np.int32), [file.num_frames for file in files])
    runs = sorted((run for shard_names in names for run in shard_names.runs), key=lambda run: run[:3])
    order = _rows_in_order(np.array([run[2] for run in runs]), np.array([run[3] - run[2] for run in runs]))
    if order is not None:
        for name in columns:
            columns[name] = columns[name][order]
    arranged = FrameColumns(urls=tuple(file.url for file in files), clip_names=tuple(numbers), **columns)
    return tuple(_videos(arranged, runs))


def _rows_in_order(
    starts: Int[np.ndarray, "runs"], lengths: Int[np.ndarray, "runs"]
) -> Int[np.ndarray, "frames"] | None:
    """Return the row numbers of the runs one after another; None if the rows are already in that order."""
    ends = np.cumsum(lengths)
    if np.array_equal(starts, ends - lengths):
        return None
    rows: np.ndarray = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
    return rows


def _videos(columns: FrameColumns, runs: Iterable[tuple[str, str, int, int]]) -> Iterator[SourceVideo]:
    at = 0
    for (identity, video), members in itertools.groupby(runs, key=lambda run: run[:2]):
        first = at
        at += sum(end - start for _, _, start, end in members)
        yield SourceVideo(f"{identity}/{video}", identity, Frames(columns, first, at))
