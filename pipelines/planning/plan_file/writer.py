"""Write a plan, extend it, and take clips out of it. At every moment readers see a whole plan."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.dataset import schema
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file.parts import SHARDS_OF_A_PART, encode_part, facts_of
from pipelines.planning.plan_file.reader import HEAD, PLAN, Head, PlanFile, part_name
from pipelines.planning.plan_file.rows import plan_row, to_clip

_WRITES = 8  # parts at once
_Rows = list[dict[str, Any]]


def write_plan(root: str, config: Mapping[str, Any], corpus: str, shards: Iterable[list[PlannedClip]]) -> None:
    """Write a new plan. Shards must come in the order of their numbers, from 0.

    `corpus` is the folder that relative paths start from; it is stored for later runs that do not name it.
    """
    storage.remove(storage.join(root, HEAD))
    _append(root, Head(config, corpus, ()), shards)


def extend_plan(plan: PlanFile, shards: Iterable[list[PlannedClip]]) -> None:
    """Add shards, whose numbers follow those of the plan. A plan that is one file is written again, as one file."""
    if plan.is_whole:
        _write_whole(plan, itertools.chain(plan.all_clips(), shards))
    else:
        _append(plan.root, Head(plan.config, plan.corpus, tuple(part.num_shards for part in plan.parts)), shards)


def filter_plan(plan: PlanFile, stays: Callable[[Mapping[str, Any]], bool]) -> None:
    """Take out the rows for which `stays` is false. Shards keep their numbers; one may become empty.

    Parts are replaced one after another, so a repeated call completes an interrupted one.
    """
    if plan.is_whole:
        _write_whole(plan, ([to_clip(row) for row in rows if stays(row)] for _, rows in plan.shards()))
        return
    digest = schema.digest_of(plan.config)
    for part in plan.parts:
        before = [*part.shards()]
        after = [[row for row in rows if stays(row)] for rows in before]
        if after != before:
            splits = (facts.split for facts in part.facts(digest))
            facts = [facts_of(rows, digest, split) for rows, split in zip(after, splits, strict=True)]
            storage.write_bytes(part.url, encode_part(after, facts))


def _append(root: str, head: Head, shards: Iterable[list[PlannedClip]]) -> None:
    first, number, sizes = sum(head.parts), len(head.parts), list(head.parts)
    _remove_parts(root, number)
    digest, writes = schema.digest_of(head.config), deque[Future[None]]()
    with ThreadPoolExecutor(_WRITES) as pool:
        try:
            for rows in _batches(_numbered(shards, first)):
                data = encode_part(rows, [facts_of(each, digest) for each in rows])
                writes.append(pool.submit(storage.write_bytes, storage.join(root, part_name(len(sizes))), data))
                sizes.append(len(rows))
                if len(writes) > _WRITES:
                    writes.popleft().result()
            for write in writes:
                write.result()
        finally:
            pool.shutdown(cancel_futures=True)
    storage.write_bytes(storage.join(root, HEAD), Head(head.config, head.corpus, tuple(sizes)).encode())


def _remove_parts(root: str, number: int) -> None:
    """Remove parts from this number on: of a planning that was interrupted before it wrote the head."""
    kept = {part_name(each) for each in range(number)}
    for url in storage.list(storage.join(root, PLAN)):
        if storage.relative(url, root) not in kept:
            storage.remove(url)


def _batches(shards: Iterator[_Rows]) -> Iterator[Sequence[_Rows]]:
    while batch := [*itertools.islice(shards, SHARDS_OF_A_PART)]:
        yield batch


def _numbered(shards: Iterable[list[PlannedClip]], first: int) -> Iterator[_Rows]:
    for number, clips in enumerate(shards, first):
        if any(clip.shard != number for clip in clips):
            raise ValueError(f"shard {number} of the plan holds clips of another one")
        yield [plan_row(clip) for clip in clips]


def _write_whole(plan: PlanFile, shards: Iterable[list[PlannedClip]]) -> None:
    """Replace a plan that is one file, atomically."""
    described = schema.PLAN_SCHEMA.with_metadata(
        {b"sfumato_config": schema.canonical_json(plan.config), b"sfumato_corpus": plan.corpus}
    )
    with (
        storage.atomic_write(storage.join(plan.root, PLAN)) as sink,
        pq.ParquetWriter(sink, described, compression="zstd") as writer,
    ):
        for rows in _numbered(shards, 0):
            writer.write_table(pa.Table.from_pylist(rows, described), row_group_size=max(1, len(rows)))
