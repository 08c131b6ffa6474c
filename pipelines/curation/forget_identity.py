"""Remove an identity from a data set: find its clips, rewrite their shards, update plan and manifest.

The order of steps makes an interruption safe at any point: the request is logged first; a shard's report is removed
before its part changes, so that a half-written shard never counts as done; the plan names the identity until the last
shard is rewritten; the manifest is replaced last. A repeated call does the remaining steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines import storage
from pipelines.curation import shard_readback
from pipelines.dataset import forgotten_log, schema
from pipelines.dataset.forgotten_log import Forgotten
from pipelines.dataset.manifest import DatasetManifest, read_manifest
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.shard_report import read_report
from pipelines.dataset.shard_writer import write_shard
from pipelines.planning.plan_file import PlanFile, filter_plan, names_of
from pipelines.preprocess.finalize import collect_reports, summarize, write_manifest
from pipelines.preprocess.shard_worker import WorkerOptions
from pipelines.storage.parquet import read_table


@dataclass(frozen=True)
class Holding:
    """The clips and shards that a data set holds of one identity."""

    identity: str
    num_clips: int
    """Clips in the plan, including other identities' clips that are copies of its videos."""
    num_frames: int
    shards: tuple[int, ...]
    copies: tuple[str, ...] = ()
    """Clips of other identities that were rejected as duplicates of its videos: they are removed with it."""
    remaining: tuple[str, ...] = ()
    """Clips of other identities that stay, although its videos were rejected as duplicates of them."""


def find_identity(root: str, plan: PlanFile, identity: str) -> Holding:
    """Return what the data set at `root` holds of an identity; no shards if it is not in the plan.

    Raises:
        FileNotFoundError, ValueError: a shard's index is missing or damaged.
    """
    manifest = read_manifest(root)
    indexes = {entry.shard: manifest.paths(entry).index for entry in manifest.shards}
    gone: list[dict[str, Any]] = []
    num_frames = 0
    for shard, rows in plan.shards():
        here = [row for row in rows if belongs_to(row, identity)]
        gone += here
        if here:
            num_frames += _count_frames(storage.join(root, indexes[shard]), identity)
    return Holding(
        identity=identity,
        num_clips=len({names_of(row) for row in gone}),
        num_frames=num_frames,
        shards=tuple(sorted({row["shard"] for row in gone})),
        copies=_clip_names(row for row in gone if row["identity"] != identity),
        remaining=tuple(
            sorted(
                {
                    row["duplicate_of"]
                    for row in gone
                    if row["duplicate_of"] and not row["duplicate_of"].startswith(f"{identity}/")
                }
            )
        ),
    )


def belongs_to(row: Mapping[str, Any], identity: str) -> bool:
    """Whether a row of the plan is a clip of the identity, or a copy of one."""
    return bool(row["identity"] == identity or (row["duplicate_of"] or "").startswith(f"{identity}/"))


def _clip_names(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted({"/".join(names_of(row)) for row in rows}))


def _count_frames(url: str, identity: str) -> int:
    return sum(name == identity for name in read_table(url, ["identity"]).column("identity").to_pylist())


def known_identities(plan: PlanFile) -> set[str]:
    """Return all identities of the plan."""
    return {row["identity"] for _, rows in plan.shards() for row in rows}


def remove_identity(root: str, holding: Holding, advance: Callable[[], None] | None = None) -> None:
    """Rewrite every shard that holds the identity, then plan, card and manifest. Calls `advance` after each shard.

    Raises:
        FileNotFoundError, ValueError: a shard is missing or damaged.
        OSError: storage fails; a repeated call continues.
    """
    manifest, plan = read_manifest(root), PlanFile(root)
    digest = forgotten_log.hash_of(holding.identity)
    if all(line.identity_sha256 != digest for line in forgotten_log.read_log(root)):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        forgotten_log.add_to_log(root, Forgotten(digest, now, holding.num_clips, holding.num_frames, holding.shards))
    places = {entry.shard: entry.split for entry in manifest.shards}
    for shard in holding.shards:
        _rewrite_shard(root, manifest, places[shard], shard, plan.rows(shard), holding.identity)
        if advance:
            advance()
    if holding.shards:
        filter_plan(plan, lambda row: not belongs_to(row, holding.identity))
    storage.remove_partial_files(root)
    update_manifest(root)


def _rewrite_shard(
    root: str, manifest: DatasetManifest, split: str, shard: int, planned: Sequence[Mapping[str, Any]], identity: str
) -> None:
    staying = [row for row in planned if not belongs_to(row, identity)]
    spec_sha256 = schema.spec_digest(manifest.config_sha256, staying)
    url = storage.join(root, shard_paths(split, shard, manifest.layout).report)
    seconds: Mapping[str, float] = {}
    if storage.exists(url):
        report = read_report(url)
        if report.spec_sha256 == spec_sha256:
            return  # already rewritten by an interrupted call
        seconds = report.seconds
    keys = {names_of(row) for row in staying}
    rows = shard_readback.read_rows(root, split, shard, manifest.layout)
    rejects = shard_readback.read_rejects(root, shard)
    storage.remove(url)
    write_shard(
        root,
        split,
        shard,
        [row for row in rows if dataclasses.astuple(row.key) in keys],
        [reject for reject in rejects if dataclasses.astuple(reject.key) in keys],
        config_sha256=manifest.config_sha256,
        spec_sha256=spec_sha256,
        num_retried=sum(row["attempt"] > 1 for row in staying),
        seconds=seconds,
        layout=manifest.layout,
    )


def update_manifest(root: str) -> DatasetManifest:
    """Recompute card and manifest from the reports and the plan, and write them if they have changed.

    Raises:
        FileNotFoundError, ValueError: `root` is not a data set.
        OSError: a shard is not done, or was made for other inputs than the plan's.
    """
    manifest, plan = read_manifest(root), PlanFile(root)
    summary = summarize(plan, plan.corpus, WorkerOptions())
    return write_manifest(
        root,
        plan,
        summary,
        collect_reports(summary),
        source=manifest.source,
        licence=manifest.licence,
        code_version=manifest.code_version,
    )
