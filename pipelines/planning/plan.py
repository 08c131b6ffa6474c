"""What a plan is made of: its config, its clips with their places, and the cutting of an ordered list into shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.dataset.schema import ClipKey


@dataclass(frozen=True)
class PlanConfig:
    """How identities are split and clips are grouped."""

    val_fraction: float = 0.05
    test_fraction: float = 0.05
    shard_bytes: int = 128 * 1024 * 1024
    """Predicted size at which a shard is closed."""
    clip_bytes: int = 16 * 24 * 1024
    """Predicted size of one clip's row: frames per clip times bytes per JPEG."""
    small_shards: int = 8
    """A small corpus is cut into at least so many shards (one per video at most), for several workers' sake."""

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
    """One row of the plan: an input clip and its place."""

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
    def is_excerpt(self) -> bool:
        """Whether the clip is the part of a whole film that its boxes name."""
        return self.boxes is not None and PurePosixPath(self.boxes).stem != PurePosixPath(self.source).stem


@dataclass(frozen=True)
class Changes:
    """How a listing compares with the plan made before."""

    num_new: int
    num_known: int
    num_gone: int
    """In the plan, and not in the listing any more."""
    num_forgotten: int
    """Of identities that were taken out of the data set: left out for good, and so are copies of their films."""
    changed: tuple[str, ...]
    """Sources of some planned clips that have another size now."""


def cut_into_shards(clips: Iterable[PlannedClip], limit: int, clip_bytes: int) -> Iterator[list[PlannedClip]]:
    """Consecutive runs of whole videos, each closed when its predicted size would pass the limit by half a video."""
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
    """Where the clip's file, or the tar around it, can be read."""
    return resolve_path(corpus, clip.location or clip.source)


def resolve_path(corpus: str, place: str) -> str:
    return place if "://" in place or place.startswith("/") else storage.join(corpus, place)
