"""`sfumato retry ROOT`: retry clips that failed for reasons outside them. Finished shards do not change."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.schema import SPLITS
from pipelines.machine import available_cpus
from pipelines.media.decoder.process import Limits
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import PlanFile, extend_plan
from pipelines.preprocess.finalize import collect_reports, failed_clips, summarize
from pipelines.preprocess.planned_shards import unfinished
from pipelines.preprocess.run import RunnerOptions, check_writable_by, finish_dataset
from pipelines.preprocess.run_record import LEASE
from pipelines.preprocess.shard_worker import WorkerOptions
from pipelines.storage import lease

RENAMED_FLAGS = {"--clip-timeout": "--decoder-timeout"}
"""Old spellings, accepted until 0.3."""


@dataclass(frozen=True)
class Options:
    """Retry the failed clips of a finished data set, as additional shards."""

    root: tyro.conf.Positional[str]
    """Path or URL of a data set made by `sfumato preprocess`."""
    src: str | None = None
    """Folder of the clips, if they have moved since the data set was begun."""
    max_attempts: int = 3
    """Clips that failed this often are not retried."""
    detector_weights: str | None = None
    """Folder or URL of the detector's weights, if they are not in the default locations."""
    decoder_timeout: float = 60.0
    """Seconds without progress after which the decoder is ended and the clip fails."""
    device: str = "cpu"
    """Device that the detector's networks run on, such as `cuda`."""
    runner: str = "local"
    """`local` (this machine), or the name of a Beam runner."""
    workers: int = dataclasses.field(default_factory=available_cpus)
    """Shards made at once by the local runner."""
    beam_args: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Flags for Beam: those that Sfumato does not know."""

    def __post_init__(self) -> None:
        if self.decoder_timeout <= 0:
            raise ValueError(f"decoder_timeout must be positive, got {self.decoder_timeout}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def accept_unknown(options: Options, args: list[str]) -> Options:
    """Pass unknown flags to Beam. Raises ValueError for a flag that Beam does not know either."""
    from pipelines.preprocess.beam.runner import check_beam_args

    check_beam_args(args)
    return dataclasses.replace(options, beam_args=tuple(args))


def run(options: Options) -> CommandResult:
    """Plan supplementary shards of the failed clips, make them, and update the manifest.

    Raises:
        FileNotFoundError: there is nothing at ROOT.
        ValueError: ROOT is not a finished data set, or another process is at work on it.
        OSError: the run failed.
    """
    begin = time.monotonic()
    if not storage.exists(options.root):
        raise FileNotFoundError(f"{options.root} does not exist")
    read_manifest(options.root)  # raises before anything is written
    with lease.hold(options.root, LEASE):
        check_writable_by(options.root, options.runner)
        return _retry(options, begin)


def _retry(options: Options, begin: float) -> CommandResult:
    manifest, plan = read_manifest(options.root), PlanFile(options.root)
    corpus = storage.absolute(options.src) if options.src is not None else plan.corpus
    limits = Limits(stall_s=options.decoder_timeout)
    worker_options = WorkerOptions(
        device=options.device,
        weights=options.detector_weights,
        limits=limits,
        failure_budget=1.0,  # retried clips often fail again: never stop the run
    )
    summary = summarize(plan, corpus, worker_options)
    # An interrupted retry has already planned its shards: make those first.
    begun = bool(unfinished(summary.shards))
    if not begun:
        failed = list(failed_clips(plan, summary, collect_reports(summary), options.max_attempts))
        if not failed:
            return CommandResult(
                made=(Artefact("data set", options.root),),
                counts=dict(manifest.counts),
                seconds=time.monotonic() - begin,
                notes=("no clip failed for a reason that may have passed: nothing to retry",),
            )
        extend_plan(plan, _supplement(plan.num_shards, failed))
        plan = PlanFile(options.root)
    runner = RunnerOptions(options.runner, options.workers, options.beam_args, 0, worker_options)
    before = manifest.counts["failed"]
    result = finish_dataset(
        plan, corpus, runner, source=manifest.source, licence=manifest.licence, notes=(), begin=begin
    )
    recovered = before - result.counts["failed"]
    note = f"{recovered} of {before} failed clips did not fail again"
    return dataclasses.replace(result, notes=(note, *result.notes))


def _supplement(first: int, failed: list[PlannedClip]) -> Iterable[list[PlannedClip]]:
    """Yield one shard per split with the clips to retry, numbered from `first`."""
    shard = itertools.count(first)
    for split in SPLITS:
        clips = [clip for clip in failed if clip.split == split]
        if clips:
            number = next(shard)
            yield [dataclasses.replace(clip, attempt=clip.attempt + 1, shard=number) for clip in clips]
