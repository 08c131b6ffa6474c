"""The parts of a plan: its config, its clips with their split and shard, and the cutting of clips into shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.dataset.schema import ClipKey

MISSING = -1
"""`num_bytes` of a clip whose file, named by a manifest, does not exist. It is rejected, unless it exists later."""


@dataclass(frozen=True)
class PlanConfig:
    """How identities are split and clips are grouped into shards."""

    val_fraction: float = 0.05
    test_fraction: float = 0.05
    shard_bytes: int = 128 * 1024 * 1024
    """Predicted size at which a shard is closed."""
    clip_bytes: int = 16 * 24 * 1024
    """Predicted size of one clip's row: frames per clip times bytes per JPEG."""
    small_shards: int = 8
    """Least number of shards of a small corpus (at most one per video), so that several workers have work."""

    def __post_init__(self) -> None:
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val and test fractions must be at least 0 and sum to less than 1, got {self.val_fraction} and "
                f"{self.test_fraction}"
            )
        if min(self.shard_bytes, self.clip_bytes, self.small_shards) < 1:
            raise ValueError("shard_bytes, clip_bytes and small_shards must be positive")


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """One row of the plan: an input clip, its split and its shard. Fields are the columns of `schema.PLAN_SCHEMA`."""

    key: ClipKey
    source: str
    num_bytes: int
    split: str
    shard: int
    location: str | None = None
    offset: int | None = None
    boxes: str | None = None
    duplicate_of: str | None = None
    attempt: int = 1

    @property
    def is_frames(self) -> bool:
        """Whether the source is a folder of frames; its path then ends with a slash."""
        return self.source.endswith("/")

    @property
    def is_excerpt(self) -> bool:
        """Whether the clip is an excerpt, defined by its box file, of a whole source video."""
        return self.boxes is not None and PurePosixPath(self.boxes).stem != PurePosixPath(self.source).stem


@dataclass(frozen=True)
class Changes:
    """How a listing compares with the earlier plan."""

    num_new: int
    num_known: int
    num_gone: int
    """Clips of the plan that are not in the listing."""
    num_forgotten: int
    """Clips of identities that were removed from the data set. They, and copies of them, are left out for good."""
    changed: tuple[str, ...]
    """Sources of up to 20 planned clips whose size or source has changed."""
    num_films: int = 0
    """Films of the listing."""
    num_identities: int = 0
    """Identities of the listing."""


def cut_into_shards(clips: Iterable[PlannedClip], limit: int, clip_bytes: int) -> Iterator[list[PlannedClip]]:
    """Cut a list of clips between videos into shards of about `limit` bytes.

    A shard is closed when the next video would exceed the limit by more than half of that video.
    """
    shard: list[PlannedClip] = []
    for video in _videos(clips):
        if shard and (len(shard) + len(video) / 2) * clip_bytes > limit:
            yield shard
            shard = []
        shard = [*shard, *video]
    if shard:
        yield shard


def _videos(clips: Iterable[PlannedClip]) -> Iterator[list[PlannedClip]]:
    video: list[PlannedClip] = []
    for clip in clips:
        if video and clip.key.video_id != video[0].key.video_id:
            yield video
            video = []
        video.append(clip)
    if video:
        yield video


def source_url(clip: PlannedClip, corpus: str) -> str:
    """Return the URL of the clip's file, or of the tar that contains it."""
    return resolve_path(corpus, clip.location or clip.source)


def resolve_path(corpus: str, path: str) -> str:
    """Return an absolute path or URL as it is, and a relative one joined to `corpus`."""
    return path if "://" in path or path.startswith("/") else storage.join(corpus, path)
