"""Read a data set: its manifest, its videos, and frames by byte range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import crc32c
import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Float64

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.frame_index import FrameRef as FrameRef
from pipelines.dataset.frame_index import SourceVideo as SourceVideo
from pipelines.dataset.frame_index import read_videos
from pipelines.dataset.index_file import IndexFile
from pipelines.dataset.index_file import plain_chunks as plain_chunks
from pipelines.dataset.manifest import ShardEntry, read_manifest
from pipelines.dataset.schema import LANDMARK_BYTES, SPLITS, ClipKey
from pipelines.dataset.stream import StreamedClip, stream_clips
from pipelines.faces.head_pose import NUM_LANDMARKS


class ShardDataset:
    """A finished data set at a path or URL.

    Raises:
        ValueError: there is no dataset.json, or it has another schema version.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest = read_manifest(root)

    def videos(self, split: str) -> tuple[SourceVideo, ...]:
        """Return the videos of a split, ordered by id. Reads the indexes and checks each shard's encodings.

        Raises:
            ValueError: an unknown split, or a shard whose frames are not byte ranges.
            FileNotFoundError: a shard is missing.
        """
        return read_videos([self._index_file(url, entry) for url, entry in self.shards(split).items()])

    def stream(self, split: str) -> Iterator[StreamedClip]:
        """Yield all clips of a split with their frames, shard by shard in the files' order, in bounded memory.

        Raises:
            ValueError: an unknown split, or a damaged shard or frame: the message names the shard and the clip.
            OSError: a shard is missing or shorter than its index says.
        """
        return stream_clips([self._index_file(url, entry) for url, entry in self.shards(split).items()], self.read)

    def shards(self, split: str) -> dict[str, ShardEntry]:
        """Return the shards of a split that hold frames, by URL. Raises ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        return {
            storage.join(self.root, self.manifest.paths(entry).part): entry
            for entry in self.manifest.shards
            if entry.split == split and entry.num_clips
        }

    def crop_affines(self, split: str) -> dict[tuple[str, str], Float64[np.ndarray, "2 3"]]:
        """Return each clip's transform from crop pixels to source pixels, by video id and clip.

        Raises:
            ValueError: an unknown split, or a broken shard.
            FileNotFoundError: a shard is missing.
        """
        affines = {}
        for url in self.shards(split):
            with storage.open(url) as source:
                try:
                    names = [*schema.KEY_COLUMNS, "crop_affine"]
                    rows = pq.ParquetFile(source).read(names).to_pylist()
                except ValueError as error:  # pyarrow's ArrowInvalid is one too
                    raise ValueError(f"{url} is broken: {error}") from error
            for row in rows:
                key = ClipKey(row["identity"], row["video"], row["clip"])
                affines[key.video_id, key.clip] = np.array(row["crop_affine"]).reshape(2, 3)
        return affines

    def _index_file(self, url: str, entry: ShardEntry) -> IndexFile:
        return IndexFile(url, storage.join(self.root, self.manifest.paths(entry).index), entry.num_frames)

    def read(
        self, frames: Sequence[FrameRef], *, at: Callable[[str], str] | None = None
    ) -> list[tuple[bytes, Float[np.ndarray, "68 2"]]]:
        """Return JPEG bytes and landmarks (crop pixels) of frames, in one set of ranged reads.

        `at` maps a shard's URL to the path or URL to read it from, such as its copy in a ShardCache.

        Raises:
            ValueError: a frame's bytes do not have the index's checksum, or its landmarks are not finite.
            OSError: a shard is missing or shorter than its index says.
        """
        places = {url: at(url) if at else url for url in {frame.url for frame in frames}}
        urls = [places[frame.url] for frame in frames]
        starts = [frame.jpeg_offset for frame in frames] + [frame.landmarks_offset for frame in frames]
        lengths = [frame.jpeg_length for frame in frames] + [LANDMARK_BYTES] * len(frames)
        parts = storage.ranges([*urls, *urls], starts, lengths)
        jpegs, points = parts[: len(frames)], _landmarks(frames, b"".join(parts[len(frames) :]))
        return [(_checked(frame, jpeg), face) for frame, jpeg, face in zip(frames, jpegs, points, strict=True)]


def _checked(frame: FrameRef, jpeg: bytes) -> bytes:
    if crc32c.crc32c(jpeg) != frame.jpeg_crc32c:
        raise ValueError(f"{frame.url}: frame {frame.frame_index} of clip {frame.clip} is damaged (checksum)")
    return jpeg


def _landmarks(frames: Sequence[FrameRef], data: bytes) -> Float[np.ndarray, "frames 68 2"]:
    points = np.frombuffer(data, "<f4").astype(np.float32).reshape(len(frames), NUM_LANDMARKS, 2)
    if not np.isfinite(points).all():
        frame = frames[int(np.argmin(np.isfinite(points).all(axis=(1, 2))))]
        raise ValueError(f"{frame.url}: landmarks of frame {frame.frame_index} of clip {frame.clip} are damaged")
    return points
