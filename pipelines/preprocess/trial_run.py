"""A trial run: process a few clips before a large run, to forecast its cost and to stop if none gives a row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import filesize

from pipelines.cli import progress
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.machine import cpu_seconds
from pipelines.planning.plan import MISSING, PlannedClip
from pipelines.preprocess.planned_shards import PlannedShard
from pipelines.preprocess.process_clips import process_clips
from pipelines.preprocess.shard_worker import ShardWorker
from pipelines.preprocess.stopwatch import Stopwatch

_BYTES_BESIDE_JPEG = 700  # per frame: landmarks, its index row, its share of the clip's columns


@dataclass(frozen=True)
class Forecast:
    """Extrapolation from a sample of clips to all clips of a run."""

    num_clips: int
    """Clips of the run."""
    sampled: int
    done: int
    codes: Mapping[str, int]
    """Reject code -> number of sampled clips without a row."""
    cpu_seconds: float
    """Per clip, over all processes."""
    wall_seconds: float
    """Per clip, for one worker."""
    bytes_per_clip: float
    """Mean over the sampled clips, including those without a row."""
    stage_seconds: Mapping[str, float]

    def lines(self, workers: int | None, cores: int) -> list[str]:
        """Return a few lines for people. `workers` is None if the runner decides on it."""
        without_row = self.sampled - self.done
        reasons = f" ({', '.join(f'{n} {code}' for code, n in sorted(self.codes.items()))})" if without_row else ""
        total = sum(self.stage_seconds.values()) or 1.0
        stages = sorted(self.stage_seconds.items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in stages)
        lines = [
            f"forecast from {self.sampled} clips: {self.num_clips:,} to come, "
            f"{filesize.decimal(round(self.num_clips * self.bytes_per_clip))}, "
            f"{without_row / self.sampled:.0%} without a row{reasons}",
            f"a clip costs {self.cpu_seconds:.2f} s of CPU: {shares}",
        ]
        if workers is None:
            return [*lines, f"all of them: {_hours(self.num_clips * self.cpu_seconds)} of one core"]
        ceiling = cores / self.cpu_seconds
        rate = min(workers / self.wall_seconds, ceiling)
        return [
            *lines,
            f"{workers} workers: {rate:.1f} clips/s, {_hours(self.num_clips / rate)}; this machine's ceiling with "
            f"{cores} cores: {ceiling:.1f} clips/s",
        ]


def run_trial(shards: Sequence[PlannedShard], num_clips: int, worker: ShardWorker) -> Forecast:
    """Process `num_clips` clips, spread over the shards, and discard the rows.

    Raises:
        ValueError: none of them gave a row; the message says why.
    """
    spec = shards[0].spec
    watch = Stopwatch()
    detector, decoder = worker.detector(spec), worker.decoder(spec)
    sample = _sample(shards, num_clips)
    for _ in process_clips(sample[:1], spec.corpus, detector, decoder, spec.config, Stopwatch()):
        pass  # load the models and start the decoder, which the forecast leaves out
    cpu, wall = cpu_seconds(), time.perf_counter()
    with progress() as bars:
        outcomes = list(
            bars.track(
                process_clips(sample, spec.corpus, detector, decoder, spec.config, watch),
                total=len(sample),
                description="trial run",
            )
        )
    wall = time.perf_counter() - wall
    worker.close()  # the CPU seconds of a child process count only once it has ended
    cpu = cpu_seconds() - cpu
    rejects = [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    rows = [outcome for outcome in outcomes if isinstance(outcome, ClipRow)]
    if not rows:
        first = rejects[0]
        raise ValueError(
            f"stopped before the run: none of the {len(outcomes)} clips of the trial run gave a row "
            f"({', '.join(sorted({reject.code for reject in rejects}))}); {first.source}: {first.message}. "
            "--trial-clips 0 runs all the same"
        )
    num_bytes = sum(len(jpeg) + _BYTES_BESIDE_JPEG for row in rows for jpeg in row.frame_jpeg)
    num_bytes += sum(len(row.audio or b"") for row in rows)
    return Forecast(
        num_clips=sum(shard.num_clips for shard in shards),
        sampled=len(outcomes),
        done=len(rows),
        codes=Counter(reject.code for reject in rejects),
        cpu_seconds=cpu / len(outcomes),
        wall_seconds=wall / len(outcomes),
        bytes_per_clip=num_bytes / len(outcomes),
        stage_seconds=watch.seconds,
    )


def _sample(shards: Sequence[PlannedShard], number: int) -> list[PlannedClip]:
    """Return clips of evenly spaced shards. The plan is ordered by hash, so this is as good as a random sample."""
    step = max(1, len(shards) // number)
    chosen = shards[::step][:number]
    each = -(-number // len(chosen))
    return [clip for shard in chosen for clip in _evenly_spaced(shard.spec.clips(), each)][:number]


def _evenly_spaced(clips: list[PlannedClip], number: int) -> Iterator[PlannedClip]:
    unique = [clip for clip in clips if clip.duplicate_of is None and clip.num_bytes != MISSING] or clips
    yield from unique[:: max(1, len(unique) // number)][:number]


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
