"""Make the shards of a plan on a Beam runner with a progress bar, and validate Beam's flags."""

from __future__ import annotations

import argparse
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.cli import progress
from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.one_line import one_line
from pipelines.preprocess.beam.dataflow import RUNNER, DataflowJobs
from pipelines.preprocess.planned_shards import PlannedShard, PlanReference, reports_of, reports_there
from pipelines.preprocess.run_record import DataflowJob

_POLL_SECONDS = 1.0
_POLL_SECONDS_OF_LINES = 10.0  # without a bar, which moves, polls may be rarer
_PAUSES_PER_LISTING = 10.0
_MAX_THREADS = 4


def run_shards(
    plan: PlanReference,
    shards: Sequence[PlannedShard],
    *,
    runner: str,
    workers: int,
    beam_args: Sequence[str] = (),
    hints: Mapping[str, str] | None = None,
    metrics: ReportMetrics | None = None,
) -> None:
    """Make the unfinished shards of a plan and wait for them. An interrupted run leaves only complete shards.

    Args:
        shards: those to make, for the progress.
        hints: Beam's resource hints, as in `MakeShards`.
        metrics: counts the reports as they appear.

    Raises:
        ValueError: an unknown runner, or a resource hint that Beam cannot parse.
        OSError: the pipeline failed.
    """
    with _quiet_import():
        from pipelines.preprocess.beam.transforms import MakeShards

    with show_progress(shards, metrics), _quiet_beam(runner):
        pipeline = _pipeline(runner, _options(runner, workers, beam_args))
        _ = pipeline | MakeShards(plan, hints)
        result = pipeline.run()
        result.wait_until_finish()


def dataflow_jobs(beam_args: Sequence[str]) -> DataflowJobs:
    """Return the jobs on Dataflow of the project and region that Beam's flags name. Raises as `DataflowJobs`."""
    with _quiet_import():
        return DataflowJobs(_options(RUNNER, 1, beam_args))


def submit_to_dataflow(
    plan: PlanReference, jobs: DataflowJobs, *, beam_args: Sequence[str], hints: Mapping[str, str] | None = None
) -> DataflowJob:
    """Start a job on Dataflow that makes the unfinished shards of a plan; return it without waiting.

    The job is named after the data set, unless the flags name it. Where they ask for the graph alone, it has no id yet.

    Raises:
        ValueError: flags that Dataflow needs are missing, or a resource hint that Beam cannot parse.
        OSError: Dataflow refuses the job.
    """
    with _quiet_import():
        from apache_beam.options.pipeline_options import GoogleCloudOptions
        from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
        from google.api_core.exceptions import GoogleAPICallError

        from pipelines.preprocess.beam.transforms import MakeShards

    options = _options(RUNNER, 1, beam_args)
    named = options.view_as(GoogleCloudOptions)
    named.job_name = jobs.name_for(plan.root)
    with _quiet_beam(RUNNER):
        pipeline = _pipeline(RUNNER, options)
        _ = pipeline | MakeShards(plan, hints)
        try:
            started = pipeline.run()
        except (DataflowJobAlreadyExistsError, GoogleAPICallError) as error:
            raise OSError(f"Dataflow in {jobs.project}, {jobs.region} refuses the job: {one_line(error)}") from error
    return DataflowJob(jobs.project, jobs.region, str(named.job_name), started.job_id() if started.has_job else "")


def _pipeline(runner: str, options: Any) -> Any:
    import apache_beam as beam

    created = _create_runner(runner)
    try:
        return beam.Pipeline(runner=created, options=options)
    except ValueError as error:  # a line for each flag that is missing or wrong
        raise ValueError(one_line(error)) from error


def _create_runner(name: str) -> Any:
    from apache_beam.runners import create_runner

    if name == "local":
        # By its full name: "DirectRunner" first tries runners on the network and falls back silently.
        return create_runner("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    try:
        return create_runner(name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"unknown runner {name!r}: {error}") from error


def _options(runner: str, workers: int, beam_args: Sequence[str]) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    if runner != "local":
        # Worker processes on this machine would log every step to the terminal.
        quiet = ["--default_sdk_harness_log_level=ERROR"] if runner.endswith("DirectRunner") else []
        return PipelineOptions([*quiet, *beam_args])
    # Decoding and detection release the GIL, so a few threads use a few cores and save the ten seconds of CPU that each
    # worker process spends on imports. With more workers the GIL is contended.
    mode = "in_memory" if workers == 1 else "multi_threading" if workers <= _MAX_THREADS else "multi_processing"
    local = [
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        "--default_sdk_harness_log_level=ERROR",
    ]
    return PipelineOptions([*local, *beam_args])


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Suppress Beam's warnings on import about Google packages that only Dataflow needs."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _quiet_beam(runner: str) -> Iterator[None]:
    """Suppress Beam's warnings. Errors are logged for remote runners; local ones also raise and would show twice."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL if runner == "local" else logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def show_progress(shards: Sequence[PlannedShard], metrics: ReportMetrics | None = None) -> Iterator[None]:
    """Show the number of clips done, by the shard reports that exist. Works with every runner; lists once per poll.

    Reports are read for `metrics` alone, each once.
    """
    stop = threading.Event()
    with progress() as bars:
        bar = bars.add_task("preprocess", total=sum(shard.num_clips for shard in shards))
        sizes = {shard.spec.paths.report: shard.num_clips for shard in shards}
        unread = {shard.spec.paths.report: shard for shard in shards}

        def look() -> None:
            there = reports_there(shards)
            bars.update(bar, completed=sum(size for name, size in sizes.items() if name in there))
            if metrics is not None:
                new = [unread[name] for name in there if name in unread]
                for shard, report in zip(new, reports_of(new), strict=True):
                    if report is not None:
                        del unread[shard.spec.paths.report]
                        metrics.add([report])

        def watch() -> None:
            pause = _POLL_SECONDS_OF_LINES if bars.disable else _POLL_SECONDS
            while not stop.wait(pause):
                begin = time.monotonic()
                with contextlib.suppress(OSError):
                    look()
                # A listing of hundreds of thousands of reports takes a while.
                pause = max(pause, _PAUSES_PER_LISTING * (time.monotonic() - begin))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if metrics is not None:
                with contextlib.suppress(OSError):
                    look()


def check_beam_args(args: Sequence[str]) -> None:
    """Raise ValueError naming the first of `args` that Beam does not know."""
    _, unknown = _beam_parser().parse_known_args(list(args))
    if unknown:
        flag = unknown[0].partition("=")[0]
        what = "unknown flag" if flag.startswith("-") else "unexpected argument"
        raise ValueError(f"{what} {flag} (Beam does not know it either)")


class _RaisingParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(message)


def _beam_parser() -> argparse.ArgumentParser:
    """Return a parser with the options of all of Beam's option classes, without abbreviations: they hide typos."""
    with _quiet_import():
        from apache_beam.options.pipeline_options import PipelineOptions

    parser = _RaisingParser(prog="sfumato preprocess", add_help=False, allow_abbrev=False)

    def add(options: Any) -> None:
        for subclass in options.__subclasses__():
            subclass._add_argparse_args(parser)
            add(subclass)

    add(PipelineOptions)
    return parser
