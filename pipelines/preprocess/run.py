"""Make the unfinished shards of a plan and finish the data set: shared by `preprocess` and `retry`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console
from pipelines.dataset.manifest import MANIFEST, DatasetManifest, read_manifest
from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.machine import available_cpus
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess.beam.dataflow import RUNNER as DATAFLOW
from pipelines.preprocess.beam.dataflow import DataflowJobs
from pipelines.preprocess.finalize import PlanSummary, collect_reports, describe_rejects, summarize, write_manifest
from pipelines.preprocess.planned_shards import PlannedShard, PlanReference, begun_reports, unfinished
from pipelines.preprocess.run_record import DataflowJob, RunRecord, read_record, remove_record, write_record
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
    detach: bool = False
    """Whether to leave a job on Dataflow to itself once it is submitted."""


def check_writable_by(root: str, runner: str) -> None:
    """Raise ValueError if a job on Dataflow may be writing the data set, and `runner` is another one."""
    record = read_record(root)
    if runner != DATAFLOW and record is not None and record.job is not None:
        raise ValueError(
            f"{root} is being written by Dataflow job {record.job.id or record.job.name} ({record.job.region}): "
            f"preprocess with --runner {DATAFLOW} waits for it; {record.job.cancel_command} ends it"
        )


def check_runner(runner: RunnerOptions) -> None:
    """Raise ValueError for what Dataflow would refuse after hours of planning: no project, region or client."""
    if runner.runner == DATAFLOW:
        from pipelines.preprocess.beam.runner import dataflow_jobs

        dataflow_jobs(runner.beam_args)


def finish_dataset(
    plan: PlanFile,
    corpus: str,
    runner: RunnerOptions,
    *,
    source: str,
    licence: str,
    notes: Sequence[str],
    begin: float,
    metrics: ReportMetrics | None = None,
) -> CommandResult:
    """Make the shards that are not done, then write the manifest.

    Args:
        metrics: counts the reports of shards, those of earlier runs first.
        begin: `time.monotonic()` at the start of the command.

    Raises:
        ValueError: an unknown runner, or no clip of the trial run gave a row.
        OSError: the run failed, or was stopped because too many clips failed.
    """
    summary = summarize(plan, corpus, runner.worker_options)
    todo = unfinished(summary.shards)
    earlier = read_record(plan.root)
    record = RunRecord(
        source=source,
        licence=licence,
        runner=runner.runner,
        began=time.time(),
        clips_before=sum(shard.num_clips for shard in summary.shards) - sum(shard.num_clips for shard in todo),
        job=earlier.job if earlier is not None else None,
    )
    if todo:
        reference = PlanReference(storage.absolute(plan.root), corpus, runner.worker_options)
        if metrics is not None:
            metrics.plan(sum(shard.num_clips for shard in summary.shards), len(summary.shards))
            metrics.add(begun_reports(summary.shards))
        if runner.runner == DATAFLOW:
            job = _run_on_dataflow(reference, todo, runner, record, metrics)
            if job is not None:
                return _left_alone(plan.root, job, todo, notes, begin)
        else:
            _show_forecast(todo, runner)
            write_record(plan.root, record)
            _remove_stop(plan.root)
            _run_here(reference, todo, runner, metrics)
        _raise_if_stopped(plan.root)
    lines, num_before = [*notes], len(summary.shards) - len(todo)
    if num_before:
        lines.append(f"{num_before} of {len(summary.shards)} shards were done before")
    return write_result(plan, summary, source=source, licence=licence, notes=lines, begin=begin)


def write_result(
    plan: PlanFile, summary: PlanSummary, *, source: str, licence: str, notes: Sequence[str], begin: float
) -> CommandResult:
    """Write the manifest from the reports of all shards, and return what the data set holds.

    Raises:
        OSError: some shards are not done.
    """
    reports = collect_reports(summary)
    manifest = write_manifest(plan.root, plan, summary, reports, source=source, licence=licence)
    remove_record(plan.root)
    counts = dict(manifest.counts)
    sums = (
        f"{counts['done']} done + {counts['rejected']} rejected + {counts['failed']} failed = {counts['inputs']} inputs"
    )
    lines = [*notes, sums, *describe_rejects(plan.root, summary, reports)]
    if not counts["done"]:
        lines.append("no clip gave a usable row")
    return CommandResult(
        made=(Artefact("data set", plan.root),),
        counts=counts,
        seconds=time.monotonic() - begin,
        ok=counts["done"] > 0,
        notes=tuple(lines),
    )


def finish_from_reports(
    root: str, worker_options: WorkerOptions, *, source: str, licence: str, begin: float
) -> CommandResult:
    """Write the manifest of a data set whose shards are all made, without its sources: its driver may be gone.

    Source and licence are those that the run was begun with, else the given ones.

    Raises:
        FileNotFoundError: `root` has no plan.
        OSError: some shards are not done.
    """
    plan, record = PlanFile(root), read_record(root)
    summary = summarize(plan, plan.corpus, worker_options)
    missing = len(unfinished(summary.shards))
    if missing:
        raise OSError(
            f"{missing} of {len(summary.shards)} shards are not made: sfumato status says who is at work; the same "
            "command without --finish makes them"
        )
    begun: RunRecord | DatasetManifest | None = record
    if record is None and storage.exists(storage.join(root, MANIFEST)):
        begun = read_manifest(root)
    if begun is not None:
        source, licence = begun.source, begun.licence
    return write_result(plan, summary, source=source, licence=licence, notes=(), begin=begin)


def _run_here(
    plan: PlanReference, todo: Sequence[PlannedShard], runner: RunnerOptions, metrics: ReportMetrics | None
) -> None:
    from pipelines.preprocess.beam.runner import run_shards

    run_shards(
        plan,
        todo,
        runner=runner.runner,
        workers=runner.workers,
        beam_args=runner.beam_args,
        hints=runner.hints,
        metrics=metrics,
    )


def _run_on_dataflow(
    plan: PlanReference,
    todo: Sequence[PlannedShard],
    runner: RunnerOptions,
    record: RunRecord,
    metrics: ReportMetrics | None,
) -> DataflowJob | None:
    """Have a job make the shards: the one that is at work on the data set, if there is one, else a new one.

    Returns the job that goes on with --detach, and None once all shards are made.
    """
    from pipelines.preprocess.beam.runner import dataflow_jobs, show_progress, submit_to_dataflow

    jobs = dataflow_jobs(runner.beam_args)
    job = None if jobs.is_template else _job_at_work(plan.root, jobs, record.job)
    if job is None:
        todo = plan.unfinished()  # an earlier job may have ended since they were listed
    while todo:
        if job is None:
            _show_forecast(todo, runner)
            _remove_stop(plan.root)
            write_record(plan.root, replace(record, job=None))
            job = submit_to_dataflow(plan, jobs, beam_args=runner.beam_args, hints=runner.hints)
            console().print(f"Dataflow job {job.id}: {job.console}", markup=False)
        else:
            console().print(f"Dataflow job {job.id} is at work on this data set: {job.console}", markup=False)
        write_record(plan.root, replace(record, job=job))
        if runner.detach or jobs.is_template:
            return job
        with show_progress(todo, metrics):
            failure = jobs.wait(job)
        write_record(plan.root, replace(record, job=None))
        _raise_if_stopped(plan.root)
        if failure:
            raise OSError(failure)
        # A job knows nothing of shards that were planned while it ran: they take another one.
        before, todo, job = len(todo), plan.unfinished(), None
        if len(todo) >= before:
            return None  # it made nothing: the reports say what is missing
    return None


def _job_at_work(root: str, jobs: DataflowJobs, job: DataflowJob | None) -> DataflowJob | None:
    """Return the job that makes the data set, if there is one.

    A driver that died after it submitted a job has not noted it, and a template's launcher knows no id: then the job is
    found by its name.
    """
    if job is not None and job.id and jobs.is_active(job):
        return job
    return jobs.active(jobs.name_for(root)) or (jobs.active(job.name) if job is not None else None)


def _left_alone(
    root: str, job: DataflowJob, todo: Sequence[PlannedShard], notes: Sequence[str], begin: float
) -> CommandResult:
    num_clips = sum(shard.num_clips for shard in todo)
    more = (
        f"sfumato status {root} says how far it is; once it is done, the same command with --finish in the place of "
        "--detach writes the manifest"
    )
    return CommandResult(
        made=(Artefact("Dataflow job", job.console),),
        counts={"shards": len(todo), "clips": num_clips},
        seconds=time.monotonic() - begin,
        notes=(*notes, more),
    )


def _remove_stop(root: str) -> None:
    storage.remove(storage.join(root, STOP))  # left by an earlier run


def _raise_if_stopped(root: str) -> None:
    stop = storage.join(root, STOP)
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
