"""Sample a data set for the preview page: clips of many identities, a few frames of each, and rejected clips."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
from jaxtyping import Float

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.manifest import DatasetManifest, ShardEntry
from pipelines.dataset.paths import ShardPaths
from pipelines.dataset.schema import LANDMARK_BYTES
from pipelines.faces.head_pose import NUM_LANDMARKS
from pipelines.media.images import decode_jpeg, encode_webp
from pipelines.planning.plan_file import ClipNames, PlanFile, is_superseded, last_attempts, names_of
from pipelines.preprocess.frame_sampling import farthest_points
from pipelines.storage.parquet import read_table

MAX_SHARDS = 200
"""Shards sampled at most; the index and rejects of each are read."""
REJECTS_PER_CODE = 24
FRAMES_PER_CLIP = 5
TILE_PX = 192
_WEBP_QUALITY = 82
_READERS = 8
_NUMBERS = (*schema.FRAME_MEASURES, *schema.INDEX_MEASURES)
# Differences that are clearly visible, used as units: degrees of yaw and pitch, mouth and eye openness.
_SCALES = np.array([15.0, 15.0, 0.2, 0.1])


@dataclass(frozen=True, eq=False)
class Tile:
    """One frame: a small WebP, its landmarks in pixels of the crop, and its index columns."""

    picture: bytes
    landmarks: Float[np.ndarray, "68 2"]
    frame_index: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class ClipStrip:
    """A few frames of one clip, ordered by yaw from the image's left to its right."""

    names: ClipNames
    split: str
    num_frames: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class PreviewSample:
    """A sample of a data set."""

    strips: tuple[ClipStrip, ...]
    numbers: Mapping[str, Float[np.ndarray, " frames"]]
    """Per-frame columns of the sampled shards' indexes."""
    frames_per_clip: Float[np.ndarray, " clips"]
    rejects: tuple[Mapping[str, Any], ...]
    """Rejects of the sampled shards that no later attempt replaces; only those to be shown keep their thumbnails."""
    num_shards: int
    """Number of sampled shards."""


@dataclass(frozen=True, eq=False)
class _Clip:
    """A clip of an index: its rows of the shard's columns."""

    names: ClipNames
    entry: ShardEntry
    rows: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _ShardSample:
    """The sample of one shard."""

    numbers: Mapping[str, Float[np.ndarray, " frames"]]
    lengths: Sequence[int]
    clips: Sequence[_Clip]
    rejects: Sequence[Mapping[str, Any]]


def sample(root: str, manifest: DatasetManifest, num_clips: int, seed: int) -> PreviewSample:
    """Sample `num_clips` clips, spread over identities, from up to MAX_SHARDS shards; reproducible by `seed`.

    Raises:
        FileNotFoundError, ValueError: a file of a shard is missing or damaged; `sfumato validate` reports all faults.
    """
    rng = random.Random(seed)
    entries = manifest.shards
    if len(entries) > MAX_SHARDS:
        entries = tuple(sorted(rng.sample(entries, MAX_SHARDS), key=lambda entry: entry.shard))
    superseded = _superseded(root)
    filled = sum(entry.num_clips > 0 for entry in entries)
    share = -(-3 * num_clips // max(1, filled))  # three times the need: identities are distributed unevenly

    def sample_shard(entry: ShardEntry) -> _ShardSample:
        chooser = random.Random(f"{seed} {entry.shard}")
        return _sample_shard(root, manifest.paths(entry), entry, share, chooser, superseded)

    def strip(clip: _Clip) -> ClipStrip:
        return _strip(storage.join(root, manifest.paths(clip.entry).part), clip)

    with ThreadPoolExecutor(_READERS) as pool:
        samples = list(pool.map(sample_shard, entries))
        chosen = _balance_identities([clip for part in samples for clip in part.clips], num_clips, rng)
        strips = tuple(pool.map(strip, sorted(chosen, key=lambda clip: clip.names)))
    return PreviewSample(
        strips=strips,
        numbers={name: np.concatenate([np.zeros(0), *(part.numbers[name] for part in samples)]) for name in _NUMBERS},
        frames_per_clip=np.array([length for part in samples for length in part.lengths], dtype=np.float64),
        rejects=_select_rejects([row for part in samples for row in part.rejects], rng),
        num_shards=len(entries),
    )


def _superseded(root: str) -> frozenset[tuple[ClipNames, int]]:
    """Return (clip, shard) of the attempts that a later one replaces."""
    plan = PlanFile(root)
    attempts = last_attempts(plan)
    if not attempts:
        return frozenset()
    return frozenset(
        (names_of(row), shard) for shard, rows in plan.shards() for row in rows if is_superseded(row, attempts)
    )


def _sample_shard(
    root: str,
    paths: ShardPaths,
    entry: ShardEntry,
    num_clips: int,
    rng: random.Random,
    superseded: frozenset[tuple[ClipNames, int]],
) -> _ShardSample:
    index = read_table(storage.join(root, paths.index))
    columns = {name: index.column(name).to_numpy() for name in index.column_names}
    keys = list(zip(columns["identity"], columns["video"], columns["clip"], strict=True))
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    ends = [*starts, len(keys)][1:]
    clips = [
        _Clip(keys[start], entry, {name: values[start:end] for name, values in columns.items()})
        for start, end in zip(starts, ends, strict=True)
    ]
    rejects: list[Mapping[str, Any]] = []
    if entry.rejects_sha256:
        table = read_table(storage.join(root, paths.rejects))
        rejects = [row for row in table.to_pylist() if (names_of(row), entry.shard) not in superseded]
    return _ShardSample(
        numbers={name: columns[name].astype(np.float64) for name in _NUMBERS},
        lengths=[end - start for start, end in zip(starts, ends, strict=True)],
        clips=_balance_identities(clips, num_clips, rng),
        rejects=rejects,
    )


def _balance_identities(clips: Sequence[_Clip], number: int, rng: random.Random) -> list[_Clip]:
    """Return `number` clips in random order: one of each identity, then a second one of each, and so on."""
    shuffled = rng.sample(clips, len(clips))
    num_before: Counter[str] = Counter()
    ranks: list[tuple[int, int]] = []
    for i, clip in enumerate(shuffled):
        ranks.append((num_before[clip.names[0]], i))
        num_before[clip.names[0]] += 1
    return [shuffled[i] for _, i in sorted(ranks)[:number]]


def _strip(url: str, clip: _Clip) -> ClipStrip:
    rows = clip.rows
    features = np.stack([rows[name] for name in ("yaw", "pitch", "mouth_openness", "eye_openness")], axis=1) / _SCALES
    chosen = sorted(farthest_points(features.astype(np.float64), FRAMES_PER_CLIP), key=lambda i: float(rows["yaw"][i]))
    starts = [int(rows[name][i]) for name in ("jpeg_offset", "landmarks_offset") for i in chosen]
    lengths = [*(int(rows["jpeg_length"][i]) for i in chosen), *[LANDMARK_BYTES] * len(chosen)]
    parts = storage.ranges([url] * len(starts), starts, lengths)
    tiles: list[Tile] = []
    for place, (jpeg, points) in enumerate(zip(parts[: len(chosen)], parts[len(chosen) :], strict=True)):
        i = chosen[place]
        if crc32c.crc32c(jpeg) != rows["jpeg_crc32c"][i]:
            raise ValueError(f"{url}: a frame of {'/'.join(clip.names)} is damaged; sfumato validate tells all of it")
        landmarks = np.frombuffer(points, "<f4").reshape(NUM_LANDMARKS, 2).astype(np.float32)
        numbers = {name: float(rows[name][i]) for name in _NUMBERS}
        tiles.append(
            Tile(
                encode_webp(decode_jpeg(jpeg), max_side=TILE_PX, quality=_WEBP_QUALITY),
                landmarks,
                int(rows["frame_index"][i]),
                numbers,
            )
        )
    return ClipStrip(clip.names, clip.entry.split, len(rows["yaw"]), tuple(tiles))


def _select_rejects(rejects: Sequence[Mapping[str, Any]], rng: random.Random) -> tuple[Mapping[str, Any], ...]:
    """Return the rejects in random order, with thumbnails first; `shown` marks the first REJECTS_PER_CODE of a code."""
    order = sorted(rng.sample(rejects, len(rejects)), key=lambda row: row["thumbnail"] is None)
    shown: Counter[str] = Counter()
    selected: list[Mapping[str, Any]] = []
    for row in order:
        shown[row["code"]] += 1
        show = shown[row["code"]] <= REJECTS_PER_CODE
        selected.append({**row, "shown": show, "thumbnail": row["thumbnail"] if show else None})
    return tuple(selected)
