"""The shards of a plan as work: their specs, the reports of those that are done, and the order to make the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.paths import layout_of, shard_paths
from pipelines.dataset.schema import SPLITS
from pipelines.dataset.shard_report import ShardReport
from pipelines.planning.plan_file import PlanFile, SmallPart
from pipelines.preprocess.config import clip_config
from pipelines.preprocess.shard_worker import ShardSpec, WorkerOptions


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """The spec of a planned shard, and its size."""

    spec: ShardSpec
    num_clips: int
    num_inputs: int = 0
    """Clips that no earlier shard has tried."""
    num_bytes: int = 0
    """Bytes of the sources to read."""


@dataclass(frozen=True)
class PlanReference:
    """The place of a plan and how its shards are made: all that a job has to be told, however many clips there are."""

    root: str
    corpus: str
    worker_options: WorkerOptions

    def unfinished(self) -> list[PlannedShard]:
        """Read the plan, and return the shards to make, the largest first."""
        return unfinished(planned_shards(PlanFile(self.root), self.corpus, self.worker_options))


def planned_shards(plan: PlanFile, corpus: str, worker_options: WorkerOptions) -> list[PlannedShard]:
    """Return all shards of a plan, in order of their numbers. Only footers of the plan's parts are read.

    Raises:
        ValueError: the plan is damaged, or of another version.
    """
    config, config_sha256, layout = clip_config(plan.config), schema.digest_of(plan.config), layout_of(plan.config)
    root, facts = storage.absolute(plan.root), iter(plan.facts())
    found = []
    for part in plan.parts:
        name = storage.relative(part.url, plan.root) if isinstance(part, SmallPart) else ""
        for group, each in zip(range(part.num_shards), facts, strict=False):
            shard = part.first + group
            spec = ShardSpec(
                root=root,
                corpus=corpus,
                split=each.split or _split_of_empty(plan.root, shard, layout),
                shard=shard,
                config=config,
                config_sha256=config_sha256,
                spec_sha256=each.spec_sha256,
                worker_options=worker_options,
                layout=layout,
                plan_part=name,
                row_group=group if name else 0,
            )
            found.append(PlannedShard(spec, each.num_clips, each.num_inputs, each.num_bytes))
    return found


def _split_of_empty(root: str, shard: int, layout: str) -> str:
    """Return the split of a shard without plan rows (all its identities were forgotten) from where its part is."""
    found = (split for split in SPLITS if storage.exists(storage.join(root, shard_paths(split, shard, layout).part)))
    return next(found, SPLITS[0])


def reports_of(shards: Sequence[PlannedShard]) -> list[ShardReport | None]:
    """Return the report of each shard that is done for its config and inputs, and None for the others."""
    found = storage.read_each(storage.join(shard.spec.root, shard.spec.paths.report) for shard in shards)
    return [shard.spec.accepts(data) for shard, data in zip(shards, found, strict=True)]


def begun_reports(shards: Sequence[PlannedShard]) -> list[ShardReport]:
    """Return the reports of the shards that are done for their config and inputs. Only listed files are read."""
    there = reports_there(shards)
    found = reports_of([shard for shard in shards if shard.spec.paths.report in there])
    return [report for report in found if report is not None]


def unfinished(shards: Sequence[PlannedShard]) -> list[PlannedShard]:
    """Return the shards to make, those with the most bytes first, so that no long one begins last."""
    done = {report.shard for report in begun_reports(shards)}
    return largest_first(shard for shard in shards if shard.spec.shard not in done)


def largest_first(shards: Iterable[PlannedShard]) -> list[PlannedShard]:
    """Return the shards by bytes of their sources, then clips, descending, then by number."""
    return sorted(shards, key=lambda shard: (-shard.num_bytes, -shard.num_clips, shard.spec.shard))


def reports_there(shards: Sequence[PlannedShard]) -> frozenset[str]:
    """Return the paths below the root of all files in the folders of the shards' reports."""
    folders = {(shard.spec.root, shard.spec.paths.report.rpartition("/")[0]) for shard in shards}
    return frozenset(
        storage.relative(url, root)
        for root, folder in folders
        for url in storage.list(storage.join(root, folder), recursive=False)
    )
