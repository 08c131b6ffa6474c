"""Which clip goes to which split and shard. Pure: the same listing and config give the same plan, anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.schema import SPLITS, ClipKey, digest_of
from pipelines.sources import Source


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


@dataclass(frozen=True)
class PlannedClip:
    """One input clip and its place."""

    source: Source
    split: str
    shard: int


@dataclass(frozen=True)
class Plan:
    """All clips in shard order. Shard numbers are unique over the splits; a video never spans two shards."""

    clips: tuple[PlannedClip, ...]

    @property
    def digest(self) -> str:
        """sha256 over keys, relative paths, sizes and places: not over where this machine keeps the files."""
        return digest_of(
            [
                [*_names(clip.source.key), clip.source.relative, clip.source.num_bytes, clip.split, clip.shard]
                for clip in self.clips
            ]
        )

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len({clip.shard for clip in self.clips})

    def shards(self) -> dict[tuple[str, int], tuple[PlannedClip, ...]]:
        """(split, shard) -> its clips, in order."""
        groups: dict[tuple[str, int], list[PlannedClip]] = {}
        for clip in self.clips:
            groups.setdefault((clip.split, clip.shard), []).append(clip)
        return {place: tuple(clips) for place, clips in groups.items()}


def make_plan(sources: Sequence[Source], config: PlanConfig) -> Plan:
    """Split by identity, order by hash, cut into shards.

    Raises:
        ValueError: a manifest puts one identity into two splits.
    """
    splits = assign_splits(sources, config)
    clips: list[PlannedClip] = []
    shard = 0
    for split in SPLITS:
        members = sorted(
            (source for source in sources if splits[source.key.identity] == split),
            key=lambda source: (_hash(source.key.video_id), source.key),
        )
        for group in _cut(members, config):
            clips += [PlannedClip(source, split, shard) for source in group]
            shard += 1
    return Plan(tuple(clips))


def assign_splits(sources: Sequence[Source], config: PlanConfig) -> dict[str, str]:
    """identity -> split: the manifest's word, else by hash of the identity. `train` is never left empty."""
    chosen: dict[str, str] = {}
    for source in sources:
        if source.split is None:
            continue
        earlier = chosen.setdefault(source.key.identity, source.split)
        if earlier != source.split:
            raise ValueError(
                f"identity {source.key.identity!r} is in two splits, {earlier} and {source.split}: a person seen in "
                "training cannot be held out"
            )
    identities = {source.key.identity for source in sources}
    splits = {name: chosen.get(name) or _split_of(name, config) for name in identities}
    if "train" not in splits.values():
        free = sorted(identities - set(chosen), key=lambda name: (_hash(name), name))
        if free:
            splits[free[0]] = "train"
    return splits


def _split_of(identity: str, config: PlanConfig) -> str:
    place = _hash(identity) / 2**64
    if place < config.test_fraction:
        return "test"
    return "val" if place < config.test_fraction + config.val_fraction else "train"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _names(key: ClipKey) -> tuple[str, str, str]:
    return key.identity, key.video, key.clip


def _cut(sources: Sequence[Source], config: PlanConfig) -> list[list[Source]]:
    """Consecutive runs of whole videos, each closed when its predicted size reaches the limit."""
    videos: dict[str, list[Source]] = {}
    for source in sources:
        videos.setdefault(source.key.video_id, []).append(source)
    total = len(sources) * config.clip_bytes
    shards = max(-(-total // config.shard_bytes), min(config.small_shards, len(videos)))
    if not shards:
        return []
    limit = max(1, total // shards)
    groups: list[list[Source]] = [[]]
    for members in videos.values():
        if groups[-1] and (len(groups[-1]) + len(members) / 2) * config.clip_bytes > limit:
            groups.append([])
        groups[-1] += members
    return groups
