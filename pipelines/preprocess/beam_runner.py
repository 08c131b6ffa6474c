"""Run shard specifications on a Beam runner, with progress; know Beam's flags."""

from __future__ import annotations

import argparse
import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines import storage
from pipelines.cli import progress
from pipelines.dataset.schema import report_name
from pipelines.preprocess.finalize import PlannedShard

_POLL_SECONDS = 1.0
_MOST_THREADS = 4


def run_shards(
    shards: Sequence[PlannedShard],
    *,
    runner: str,
    workers: int,
    beam_args: Sequence[str] = (),
    hints: Mapping[str, str] | None = None,
) -> None:
    """Make the shards, blocking. Interrupted, it leaves whole shards only.

    Raises:
        ValueError: an unknown runner, or a resource hint that Beam cannot read.
        OSError: the pipeline failed.
    """
    with _quiet_import():
        import apache_beam as beam

        from pipelines.preprocess.beam_transforms import MakeShards

    with _progress(shards), _quiet_beam(runner):
        pipeline = beam.Pipeline(runner=_create_runner(runner), options=_options(runner, workers, beam_args))
        _ = pipeline | MakeShards([shard.spec for shard in shards], hints)
        result = pipeline.run()
        result.wait_until_finish()


def _create_runner(name: str) -> Any:
    from apache_beam.runners import create_runner

    if name == "local":
        # By name: "DirectRunner" looks for other runners on the network first and falls back without a word.
        return create_runner("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    try:
        return create_runner(name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"unknown runner {name!r}: {error}") from error


def _options(runner: str, workers: int, beam_args: Sequence[str]) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    if runner != "local":
        # Worker processes on this machine would tell every step of theirs on the terminal.
        quiet = ["--default_sdk_harness_log_level=ERROR"] if runner.endswith("DirectRunner") else []
        return PipelineOptions([*quiet, *beam_args])
    # Decoding and detection leave the interpreter's lock alone, so a few threads keep a few cores busy and spare the
    # ten seconds of CPU that each worker process spends on imports. Many cores would wait for the lock.
    mode = "in_memory" if workers == 1 else "multi_threading" if workers <= _MOST_THREADS else "multi_processing"
    local = [
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        "--default_sdk_harness_log_level=ERROR",
    ]
    return PipelineOptions([*local, *beam_args])


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Beam warns on import, through the root logger, about Google packages that only Google's runner needs."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _quiet_beam(runner: str) -> Iterator[None]:
    """Beam's warnings about its own options are no news for the user; errors of a far engine are. Here an error comes
    as an exception as well, and would be shown twice."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL if runner == "local" else logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _progress(shards: Sequence[PlannedShard]) -> Iterator[None]:
    """Clips done, by the names of the reports that appear: the same for every runner, and one listing a look."""
    stop = threading.Event()
    with progress() as bars:
        bar = bars.add_task("preprocess", total=sum(shard.num_clips for shard in shards))
        sizes = {report_name(shard.spec.split, shard.spec.shard): shard.num_clips for shard in shards}
        folders = {(shard.spec.root, shard.spec.split) for shard in shards}

        def watch() -> None:
            while not stop.wait(_POLL_SECONDS):
                with contextlib.suppress(OSError):
                    there = {
                        url[len(root) :].lstrip("/")
                        for root, split in folders
                        for url in storage.list(storage.join(root, split), recursive=False)
                    }
                    bars.update(bar, completed=sum(size for name, size in sizes.items() if name in there))

        thread = threading.Thread(target=watch, daemon=True)
        if not bars.disable:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if thread.is_alive():
                thread.join()


def check_beam_args(args: Sequence[str]) -> None:
    """Raises ValueError naming the first of `args` that Beam does not know."""
    _, unknown = _beam_parser().parse_known_args(list(args))
    if unknown:
        flag = unknown[0].partition("=")[0]
        what = "unknown flag" if flag.startswith("-") else "unexpected argument"
        raise ValueError(f"{what} {flag} (Beam does not know it either)")


class _RaisingParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(message)


def _beam_parser() -> argparse.ArgumentParser:
    """All options of all of Beam's option classes; no abbreviations, which would let misspelt flags through."""
    with _quiet_import():
        from apache_beam.options.pipeline_options import PipelineOptions

    parser = _RaisingParser(prog="sfumato preprocess", add_help=False, allow_abbrev=False)

    def add(options: Any) -> None:
        for subclass in options.__subclasses__():
            subclass._add_argparse_args(parser)
            add(subclass)

    add(PipelineOptions)
    return parser
