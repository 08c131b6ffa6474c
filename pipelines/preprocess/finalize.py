"""Turn the reports of a plan's shards into the data card and the manifest."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.data_card import data_card
from pipelines.dataset.manifest import MANIFEST, DatasetManifest, read_manifest
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.schema import SCHEMA_VERSION
from pipelines.dataset.shard_report import ShardReport, sum_seconds
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import ClipNames, PlanFile, is_superseded, last_attempts, names_of, to_clip
from pipelines.preprocess.planned_shards import PlannedShard, planned_shards, reports_of
from pipelines.preprocess.shard_worker import WorkerOptions
from pipelines.storage.parquet import read_table

_REJECTS_SHOWN = 20


@dataclass(frozen=True)
class PlanSummary:
    """The shards of a plan and its totals."""

    shards: tuple[PlannedShard, ...]
    num_inputs: int
    superseded: frozenset[tuple[ClipNames, int]]
    """(clip, shard) of the outcomes that a later attempt replaces."""


def summarize(plan: PlanFile, corpus: str, worker_options: WorkerOptions) -> PlanSummary:
    """Return the shards of a plan, in order, and its totals. Rows are read only where some clips are retried."""
    shards = planned_shards(plan, corpus, worker_options)
    superseded: set[tuple[ClipNames, int]] = set()
    if attempts := last_attempts(plan):
        for number, rows in plan.shards():
            superseded.update((names_of(row), number) for row in rows if is_superseded(row, attempts))
    return PlanSummary(tuple(shards), sum(shard.num_inputs for shard in shards), frozenset(superseded))


def collect_reports(summary: PlanSummary) -> list[ShardReport]:
    """Return the reports of all shards, in order.

    Raises:
        OSError: some shards are not done.
    """
    reports = reports_of(summary.shards)
    missing = sum(report is None for report in reports)
    if missing:
        raise OSError(f"{missing} of {len(reports)} shards were not made; run the same command again to continue")
    return [report for report in reports if report is not None]


def read_rejects(root: str, reports: Sequence[ShardReport]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of rejected and failed clips, without thumbnails, shard by shard."""
    columns = [name for name in schema.REJECT_SCHEMA.names if name != "thumbnail"]
    for report in reports:
        if report.num_rejected + report.num_failed:
            url = storage.join(root, shard_paths(report.split, report.shard).rejects)
            for row in read_table(url, columns).to_pylist():
                yield {**row, "split": report.split, "shard": report.shard}


def write_manifest(
    root: str,
    plan: PlanFile,
    summary: PlanSummary,
    reports: Sequence[ShardReport],
    *,
    source: str,
    licence: str,
    code_version: str | None = None,
) -> DatasetManifest:
    """Write the data card and, last, dataset.json. Neither is written when the manifest has not changed.

    `code_version` defaults to this program's; a caller that only removes rows passes the earlier one.
    """
    codes, identities = Counter[str](), plan.identities()
    for report in reports:
        codes.update(report.codes)
    if summary.superseded:
        shards = {shard for _, shard in summary.superseded}
        retried_in = [report for report in reports if report.shard in shards]
        codes.subtract(row["code"] for row in read_rejects(root, retried_in) if _is_superseded(row, summary))
    retried = sum(report.num_retried for report in reports)
    counts = {
        "inputs": summary.num_inputs,
        "done": sum(report.num_done for report in reports),
        "rejected": sum(report.num_rejected for report in reports),
        "failed": sum(report.num_failed for report in reports) - retried,
        "frames": sum(report.num_frames for report in reports),
        "identities": sum(identities.values()),
    }
    outcomes = counts["done"] + counts["rejected"] + counts["failed"]
    assert outcomes == counts["inputs"], f"{counts['inputs']} inputs, but {outcomes} outcomes"
    manifest = DatasetManifest(
        schema_version=SCHEMA_VERSION,
        code_version=code_version or _code_version(),
        config=json.loads(schema.canonical_json(plan.config)),
        config_sha256=schema.digest_of(plan.config),
        plan_sha256=schema.plan_digest(report.spec_sha256 for report in reports),
        source=source,
        licence=licence,
        counts=counts,
        codes={code: number for code, number in sorted(codes.items()) if number},
        shards=tuple(report.entry for report in reports),
        episode_k_max=max(0, min((r.min_clip_frames for r in reports if r.num_done), default=0) - 1),
        stage_seconds=sum_seconds(reports),
    )
    storage.remove_partial_files(root)
    try:
        if read_manifest(root) == manifest:
            return manifest
    except ValueError:
        pass  # no manifest yet, or one that cannot be read
    storage.write_bytes(storage.join(root, "README.md"), data_card(manifest, identities, reports).encode())
    storage.write_bytes(storage.join(root, MANIFEST), manifest.to_json().encode())
    return manifest


def _is_superseded(row: Mapping[str, Any], summary: PlanSummary) -> bool:
    return (names_of(row), row["shard"]) in summary.superseded


def _code_version() -> str:
    from importlib.metadata import version

    return version("sfumato")


def describe_rejects(root: str, summary: PlanSummary, reports: Sequence[ShardReport]) -> list[str]:
    """Return one line per clip without a row, at most twenty, and a line with the number of the others."""
    rows = (row for row in read_rejects(root, reports) if not _is_superseded(row, summary))
    lines = [
        f"{row['source']} {row['status']} ({row['code']}): {row['message']}"
        for row in itertools.islice(rows, _REJECTS_SHOWN)
    ]
    rejected = sum(report.num_rejected + report.num_failed for report in reports)
    made = {report.shard for report in reports}
    more = rejected - sum(shard in made for _, shard in summary.superseded) - len(lines)
    return [*lines, f"and {more} more, in {storage.join(root, 'rejects')}"] if more else lines


def failed_clips(
    plan: PlanFile, summary: PlanSummary, reports: Sequence[ShardReport], max_attempts: int
) -> Iterator[PlannedClip]:
    """Yield the plan's clips whose last attempt failed for a reason that may be temporary."""
    failed: dict[int, set[ClipNames]] = {}
    for row in read_rejects(plan.root, [report for report in reports if report.num_failed]):
        if row["retryable"] and row["attempts"] < max_attempts and not _is_superseded(row, summary):
            failed.setdefault(row["shard"], set()).add(names_of(row))
    for number, names in sorted(failed.items()):
        yield from (to_clip(row) for row in plan.rows(number) if names_of(row) in names)
