"""`sfumato retry ROOT`: try again what failed for reasons outside the clips. Finished shards are left as they are."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.schema import SPLITS
from pipelines.media.decoder_process import Limits
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import PlanFile, write_plan
from pipelines.preprocess.finalize import collect_reports, failed_clips, summarize
from pipelines.preprocess.run import RunnerOptions, finish_dataset
from pipelines.preprocess.shard_worker import WorkerOptions

RENAMED_FLAGS = {"--clip-timeout": "--decoder-timeout"}
"""Old spellings, accepted until 0.3."""


@dataclass(frozen=True)
class Options:
    """Try the failed clips of a finished data set again, as shards of their own beside the others."""

    root: tyro.conf.Positional[str]
    """Data set made by `sfumato preprocess`: a path or URL."""
    src: str | None = None
    """Folder that the clips lie in, where they have moved since the data set was begun."""
    max_attempts: int = 3
    """Clips that failed so often are left alone."""
    detector_weights: str | None = None
    """Folder or URL with the detector's weights, where they are not in their usual places."""
    decoder_timeout: float = 60.0
    """Seconds that a film's decoder may be silent before the clip is given up."""
    device: str = "cpu"
    """Device of the detector's network, such as `cuda`."""
    runner: str = "local"
    """`local` (this machine), or a Beam runner by name."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Shards made at once by the local runner."""
    beam_args: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Flags that this verb does not know and Beam does."""

    def __post_init__(self) -> None:
        if self.decoder_timeout <= 0:
            raise ValueError(f"decoder_timeout must be positive, got {self.decoder_timeout}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def accept_unknown(options: Options, args: list[str]) -> Options:
    """Take flags that are not ours as Beam's. Raises ValueError for what Beam does not know either."""
    from pipelines.preprocess.beam_runner import check_beam_args

    check_beam_args(args)
    return dataclasses.replace(options, beam_args=tuple(args))


def run(options: Options) -> CommandResult:
    """Plan supplement shards for what failed, run them, and bring the manifest up to date.

    Raises:
        FileNotFoundError: there is nothing at ROOT.
        ValueError: ROOT is no finished data set.
        OSError: the run failed.
    """
    begin = time.monotonic()
    if not storage.exists(options.root):
        raise FileNotFoundError(f"{options.root} does not exist")
    manifest, plan = read_manifest(options.root), PlanFile(options.root)
    corpus = storage.absolute(options.src) if options.src is not None else plan.corpus
    # Failing again is what a retry must expect: no budget.
    limits = Limits(stall_s=options.decoder_timeout)
    tools = WorkerOptions(device=options.device, weights=options.detector_weights, limits=limits, failure_budget=1.0)
    summary = summarize(plan, corpus, tools)
    # A retry that was interrupted has planned its shards already; they come first.
    begun = any(shard.spec.finished() is None for shard in summary.shards)
    if not begun:
        failed = list(failed_clips(plan, summary, collect_reports(summary), options.max_attempts))
        if not failed:
            return CommandResult(
                made=(Artefact("data set", options.root),),
                counts=dict(manifest.counts),
                seconds=time.monotonic() - begin,
                notes=("no clip failed for a reason that may have passed: nothing to retry",),
            )
        write_plan(options.root, plan.config, plan.corpus, _with_supplement(plan, failed))
        plan = PlanFile(options.root)
    engine = RunnerOptions(options.runner, options.workers, options.beam_args, 0, tools)
    before = manifest.counts["failed"]
    outcome = finish_dataset(
        plan, corpus, engine, source=manifest.source, licence=manifest.licence, notes=(), begin=begin
    )
    helped = before - outcome.counts["failed"]
    return dataclasses.replace(outcome, notes=(f"{helped} of {before} failed clips did not fail again", *outcome.notes))


def _with_supplement(plan: PlanFile, failed: list[PlannedClip]) -> Iterable[list[PlannedClip]]:
    """The plan, and after it one shard a split of what is tried again."""
    shard = itertools.count(plan.num_shards)
    yield from plan.all_clips()
    for split in SPLITS:
        clips = [clip for clip in failed if clip.split == split]
        if clips:
            number = next(shard)
            yield [dataclasses.replace(clip, attempt=clip.attempt + 1, shard=number) for clip in clips]
