"""What `preprocess` and `retry` have in common: run the shards of a plan that are not done, and finish the data set."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess.finalize import PlannedShard, collect_reports, describe_rejects, summarize, write_manifest
from pipelines.preprocess.shard_worker import STOP, ShardWorker, WorkerOptions
from pipelines.preprocess.trial_run import run_trial

_CANARY_PAYS = 8  # times as many clips to come as the canary tries


@dataclass(frozen=True)
class RunnerOptions:
    """What runs the shards: nothing here changes what comes out."""

    runner: str
    workers: int
    beam_args: tuple[str, ...]
    trial_clips: int
    worker_options: WorkerOptions
    hints: Mapping[str, str] = field(default_factory=dict)
    """What a worker of a far engine needs: Beam's resource hints."""


def finish_dataset(
    plan: PlanFile,
    corpus: str,
    engine: RunnerOptions,
    *,
    source: str,
    licence: str,
    notes: Sequence[str],
    begin: float,
) -> CommandResult:
    """Make the shards that are not done, then the manifest.

    Raises:
        ValueError: an unknown runner, or the canary gave nothing.
        OSError: the run failed, or was stopped because too much failed.
    """
    summary = summarize(plan, corpus, engine.worker_options)
    todo = [shard for shard in summary.shards if shard.spec.finished() is None]
    _show_forecast(todo, engine)
    if todo:
        _run(plan.root, todo, engine)
    reports = collect_reports(summary)
    manifest = write_manifest(plan.root, plan, summary, reports, source=source, licence=licence)
    counts = dict(manifest.counts)
    sums = (
        f"{counts['done']} done + {counts['rejected']} rejected + {counts['failed']} failed = {counts['inputs']} inputs"
    )
    lines = [*notes, sums, *describe_rejects(plan.root, summary, reports)]
    if len(todo) < len(reports):
        lines.append(f"{len(reports) - len(todo)} of {len(reports)} shards were done before")
    if not counts["done"]:
        lines.append("no clip gave a usable row")
    return CommandResult(
        made=(Artefact("data set", plan.root),),
        counts=counts,
        seconds=time.monotonic() - begin,
        ok=counts["done"] > 0,
        notes=tuple(lines),
    )


def _run(root: str, todo: Sequence[PlannedShard], engine: RunnerOptions) -> None:
    from pipelines.preprocess.beam_runner import run_shards

    stop = storage.join(root, STOP)
    storage.remove(stop)  # of an earlier run
    run_shards(todo, runner=engine.runner, workers=engine.workers, beam_args=engine.beam_args, hints=engine.hints)
    if storage.exists(stop):
        reason = storage.read_bytes(stop).decode()
        storage.remove(stop)
        raise OSError(f"the run was stopped: {reason}")


def _show_forecast(todo: Sequence[PlannedShard], engine: RunnerOptions) -> None:
    """Try a few clips before a large run and say what it will cost."""
    num_clips = sum(shard.num_clips for shard in todo)
    if not engine.trial_clips or num_clips < engine.trial_clips * _CANARY_PAYS:
        return
    worker = ShardWorker()
    try:
        forecast = run_trial(todo, engine.trial_clips, worker)
    finally:
        worker.close()
    for line in forecast.lines(engine.workers if engine.runner == "local" else None, os.cpu_count() or 1):
        console().print(line)
