"""Make the unfinished shards of a plan and finish the data set: shared by `preprocess` and `retry`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console
from pipelines.machine import available_cpus
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess.finalize import PlannedShard, collect_reports, describe_rejects, summarize, write_manifest
from pipelines.preprocess.shard_worker import STOP, ShardWorker, WorkerOptions
from pipelines.preprocess.trial_run import run_trial

_MIN_CLIPS_PER_TRIAL_CLIP = 8  # a trial run is made for runs of at least this many times its clips


@dataclass(frozen=True)
class RunnerOptions:
    """How the shards are run. None of this changes their rows."""

    runner: str
    workers: int
    beam_args: tuple[str, ...]
    trial_clips: int
    worker_options: WorkerOptions
    hints: Mapping[str, str] = field(default_factory=dict)
    """Beam's resource hints for each worker of a remote runner."""


def finish_dataset(
    plan: PlanFile,
    corpus: str,
    runner: RunnerOptions,
    *,
    source: str,
    licence: str,
    notes: Sequence[str],
    begin: float,
) -> CommandResult:
    """Make the shards that are not done, then write the manifest.

    Args:
        begin: `time.monotonic()` at the start of the command.

    Raises:
        ValueError: an unknown runner, or no clip of the trial run gave a row.
        OSError: the run failed, or was stopped because too many clips failed.
    """
    summary = summarize(plan, corpus, runner.worker_options)
    todo = [shard for shard in summary.shards if shard.spec.finished() is None]
    _show_forecast(todo, runner)
    if todo:
        _run(plan.root, todo, runner)
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


def _run(root: str, todo: Sequence[PlannedShard], runner: RunnerOptions) -> None:
    from pipelines.preprocess.beam_runner import run_shards

    stop = storage.join(root, STOP)
    storage.remove(stop)  # left by an earlier run
    run_shards(todo, runner=runner.runner, workers=runner.workers, beam_args=runner.beam_args, hints=runner.hints)
    if storage.exists(stop):
        reason = storage.read_bytes(stop).decode()
        storage.remove(stop)
        raise OSError(f"the run was stopped: {reason}")


def _show_forecast(todo: Sequence[PlannedShard], runner: RunnerOptions) -> None:
    """Before a large run, make a trial run and print its forecast."""
    num_clips = sum(shard.num_clips for shard in todo)
    if not runner.trial_clips or num_clips < runner.trial_clips * _MIN_CLIPS_PER_TRIAL_CLIP:
        return
    worker = ShardWorker()
    try:
        forecast = run_trial(todo, runner.trial_clips, worker)
    finally:
        worker.close()
    for line in forecast.lines(runner.workers if runner.runner == "local" else None, available_cpus()):
        console().print(line)
