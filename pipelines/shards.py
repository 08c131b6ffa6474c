"""The reading side of a data set: its manifest, its videos, and frames by byte range."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Float64
from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines import schema, storage
from pipelines.faces import CropRule
from pipelines.frame_index import FrameRef as FrameRef
from pipelines.frame_index import SourceVideo as SourceVideo
from pipelines.frame_index import read_videos
from pipelines.index_file import IndexFile
from pipelines.index_file import plain_chunks as plain_chunks
from pipelines.schema import LANDMARK_BYTES, NUM_LANDMARKS, SCHEMA_VERSION, SPLITS, ClipKey
from pipelines.shard_stream import StreamedClip, stream_clips

MANIFEST = "dataset.json"


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the manifest."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    split: str
    shard: int
    num_clips: int
    num_frames: int
    num_bytes: int
    sha256: str
    index_sha256: str
    rejects_sha256: str
    """Of the shard's rows in `rejects/`; empty where it rejected nothing."""


@dataclass(frozen=True)
class DatasetManifest:
    """dataset.json: what a data set is made of. Written last: it exists if and only if the data set is complete.

    `config` holds the sections "clip" and "plan" as they were given, and "weights", the sha256 of each pretrained file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema_version: int
    code_version: str
    config: Mapping[str, Any]
    config_sha256: str
    plan_sha256: str
    source: str
    licence: str
    counts: Mapping[str, int]
    codes: Mapping[str, int]
    shards: tuple[ShardEntry, ...]
    episode_k_max: int
    """The most shots K for which every clip holds an episode: its K + 1 frames."""
    stage_seconds: Mapping[str, float]

    @property
    def digest(self) -> str:
        """sha256 of the manifest without its timings: equal data sets have equal digests."""
        return schema.digest_of({**_plain(self), "stage_seconds": None})

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.config["clip"]["size"])

    @property
    def frames_per_clip(self) -> int:
        """Frames kept per clip, at most."""
        return int(self.config["clip"]["frames_per_clip"])

    @property
    def detector(self) -> str:
        """Name of the landmark detector."""
        return str(self.config["clip"]["detector"])

    @property
    def crop_rule(self) -> CropRule:
        """How the crops were cut."""
        return CropRule(**self.config["clip"]["crop"])

    def to_json(self) -> str:
        """Readable JSON, keys sorted."""
        return json.dumps(_plain(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_ADAPTER = TypeAdapter(DatasetManifest)


def _plain(manifest: DatasetManifest) -> dict[str, Any]:
    plain: dict[str, Any] = _ADAPTER.dump_python(manifest, mode="json")
    return plain


def read_manifest(root: str) -> DatasetManifest:
    """Raises ValueError when dataset.json is missing, broken, or of another schema version."""
    url = storage.join(root, MANIFEST)
    try:
        text = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{root} is no data set, or preprocessing has not finished: it has no {MANIFEST}") from error
    try:
        version = json.loads(text)["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"{url} has schema version {version}; this code reads {SCHEMA_VERSION}")
        return _ADAPTER.validate_json(text)
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{url} is not a data set manifest: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{url}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class ShardDataset:
    """A finished data set at a path or URL.

    Raises:
        ValueError: no dataset.json, or another schema version.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest = read_manifest(root)

    def videos(self, split: str) -> tuple[SourceVideo, ...]:
        """The videos of a split, ordered by id. Reads the indexes and checks each shard's encodings.

        Raises:
            ValueError: an unknown split, or a shard whose frames are no byte ranges.
            FileNotFoundError: a shard is missing.
        """
        return read_videos([self._index_file(url, entry) for url, entry in self.shards(split).items()])

    def stream(self, split: str) -> Iterator[StreamedClip]:
        """All clips of a split with their frames, shard by shard in the files' order, in memory that does not grow.

        Raises:
            ValueError: an unknown split, or a shard or frame is damaged: the message names the shard and the clip.
            OSError: a shard is missing or shorter than its index says.
        """
        return stream_clips([self._index_file(url, entry) for url, entry in self.shards(split).items()], self.read)

    def shards(self, split: str) -> dict[str, ShardEntry]:
        """The shards of a split that hold frames, by URL. Raises ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        return {
            storage.join(self.root, schema.part_name(split, entry.shard)): entry
            for entry in self.manifest.shards
            if entry.split == split and entry.num_clips
        }

    def crop_affines(self, split: str) -> dict[tuple[str, str], Float64[np.ndarray, "2 3"]]:
        """Where each clip's crop lies in its film (crop pixels -> film pixels), by video id and clip.

        Raises:
            ValueError: an unknown split, or a broken shard.
            FileNotFoundError: a shard is missing.
        """
        affines = {}
        for url in self.shards(split):
            with storage.open(url) as source:
                try:
                    names = ["identity", "video", "clip", "crop_affine"]
                    rows = pq.ParquetFile(source).read(names).to_pylist()
                except ValueError as error:  # pyarrow's ArrowInvalid is one too
                    raise ValueError(f"{url} is broken: {error}") from error
            for row in rows:
                key = ClipKey(row["identity"], row["video"], row["clip"])
                affines[key.video_id, key.clip] = np.array(row["crop_affine"]).reshape(2, 3)
        return affines

    def _index_file(self, url: str, entry: ShardEntry) -> IndexFile:
        return IndexFile(url, storage.join(self.root, schema.index_name(entry.split, entry.shard)), entry.num_frames)

    def read(
        self, frames: Sequence[FrameRef], *, at: Callable[[str], str] | None = None
    ) -> list[tuple[bytes, Float[np.ndarray, "68 2"]]]:
        """JPEG bytes and landmarks (crop pixels) of frames, in one set of ranged reads.

        `at` tells where to read a shard, given its URL: such as in a ShardCache.

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
