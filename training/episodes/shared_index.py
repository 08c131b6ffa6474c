"""A data set's frame index in files that the processes of a machine map into memory and share.

Read from the shards' indexes, the frames take 36 bytes each in every process, and their videos some 500. Mapped, they
are pages of the file cache: one copy per machine, which the kernel may drop and read again.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from pipelines.dataset.frame_index import FrameColumns, Frames, SourceVideo
from pipelines.dataset.reader import ShardDataset

MIN_FRAMES = 1_000_000
"""A smaller index is read into memory: 36 MB."""
_NUMBERS = ("shard", "clip", "frame_index", "jpeg_offset", "jpeg_length", "jpeg_crc32c", "landmarks_offset")
_OF_VIDEOS = ("video_id", "identity")
_NAMES, _VIDEOS, _BOUNDS = "names.json", "videos.arrow", "bounds.npy"
_FORMAT = "1"
logger = logging.getLogger(__name__)


class MappedVideos(Sequence[SourceVideo]):
    """Videos of a mapped index, created on access.

    Args:
        names: table of `video_id` and `identity`.
        bounds: first frame of each video, and last the number of frames.
        chosen: numbers of the videos of this sequence; None: all.
    """

    def __init__(
        self,
        columns: FrameColumns,
        names: Any,
        bounds: Int64[np.ndarray, "videos_and_1"],
        chosen: Int64[np.ndarray, "chosen"] | None = None,
    ) -> None:
        self.columns, self._names, self._bounds, self._chosen = columns, names, bounds, chosen

    @property
    def num_frames(self) -> Int64[np.ndarray, "videos"]:
        """Number of frames of each video."""
        counts = np.diff(self._bounds)
        return counts if self._chosen is None else counts[self._chosen]

    def with_frames(self, least: int) -> "MappedVideos":
        """Return the videos with at least so many frames."""
        if (self.num_frames >= least).all():
            return self
        chosen = np.arange(len(self)) if self._chosen is None else self._chosen
        return MappedVideos(self.columns, self._names, self._bounds, chosen[self.num_frames >= least])

    def __len__(self) -> int:
        return len(self._bounds) - 1 if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, position: int) -> SourceVideo: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[SourceVideo, ...]: ...
    def __getitem__(self, position: int | slice) -> SourceVideo | tuple[SourceVideo, ...]:
        places = range(len(self))[position]
        return tuple(map(self._video, places)) if isinstance(places, range) else self._video(places)

    def __iter__(self) -> Iterator[SourceVideo]:
        return map(self._video, range(len(self)))

    def _video(self, place: int) -> SourceVideo:
        number = place if self._chosen is None else int(self._chosen[place])
        video_id, identity = (self._names.column(name)[number].as_py() for name in _OF_VIDEOS)
        first, end = self._bounds[number : number + 2].tolist()
        return SourceVideo(video_id, identity, Frames(self.columns, first, end))


def open_videos(dataset: ShardDataset, split: str, folder: Path) -> Sequence[SourceVideo]:
    """Return the videos of a split, ordered by id, from a mapped index below `folder`; the first process that needs
    one reads the shards' indexes and writes it. Small data sets are read into memory.

    Raises:
        ValueError, FileNotFoundError: see `ShardDataset.videos`.
    """
    if sum(entry.num_frames for entry in dataset.shards(split).values()) < MIN_FRAMES:
        return dataset.videos(split)
    root, digest = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (dataset.root, dataset.manifest.digest))
    index = folder / f"{root}-{split}-{_FORMAT}-{digest}"
    try:
        with _locked(folder / f"{root}-{split}.lock"):
            if not index.is_dir():
                _write(dataset.videos(split), index)
                for other in folder.glob(f"{root}-{split}-*"):  # of the data set as it was; who maps it keeps it
                    if other != index:
                        shutil.rmtree(other)
        return _mapped(index)
    except OSError as error:
        if isinstance(error, FileNotFoundError):  # a shard
            raise
        logger.warning("the index of %s is held in memory by each worker: %s", dataset.root, error)
        return dataset.videos(split)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(videos: tuple[SourceVideo, ...], index: Path) -> None:
    """Write an index beside its place, then rename it: it is there whole or not at all."""
    frames = videos[0].frames
    assert isinstance(frames, Frames)
    partial = index.with_name(f"{index.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    columns = frames.columns
    for name in _NUMBERS:
        np.save(partial / f"{name}.npy", getattr(columns, name))
    bounds = [0, *itertools.accumulate(len(video.frames) for video in videos)]
    np.save(partial / _BOUNDS, np.array(bounds, np.int64))
    (partial / _NAMES).write_text(json.dumps({"urls": columns.urls, "clips": columns.clip_names}))
    names = {name: pa.array([getattr(video, name) for video in videos], pa.large_string()) for name in _OF_VIDEOS}
    table = pa.table(names)
    with pa.OSFile(str(partial / _VIDEOS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    partial.rename(index)


def _mapped(index: Path) -> MappedVideos:
    names = json.loads((index / _NAMES).read_text())
    numbers: dict[str, Any] = {name: np.load(index / f"{name}.npy", mmap_mode="r") for name in _NUMBERS}
    columns = FrameColumns(tuple(names["urls"]), tuple(names["clips"]), **numbers)
    table = pa.ipc.open_file(pa.memory_map(str(index / _VIDEOS))).read_all()
    return MappedVideos(columns, table.combine_chunks(), np.load(index / _BOUNDS, mmap_mode="r"))
