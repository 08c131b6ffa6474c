"""Every Beam PTransform and DoFn: wiring only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection

from pipelines.dataset.shard_report import ShardReport
from pipelines.preprocess.shard_worker import ShardSpec, ShardWorker


class ProcessShard(beam.DoFn):  # type: ignore[misc] # Beam's classes are untyped here
    """ShardSpec -> ShardReport. Models and file systems are made in the worker."""

    def setup(self) -> None:
        """Make the worker, once per DoFn instance."""
        self._worker = ShardWorker()

    def teardown(self) -> None:
        """End what the worker started."""
        self._worker.close()

    def process(self, spec: ShardSpec) -> Iterator[ShardReport]:
        """Make one shard."""
        report = self._worker(spec)
        if report is None:
            return
        Metrics.counter("clips", "done").inc(report.num_done)
        Metrics.counter("clips", "rejected").inc(report.num_rejected)
        Metrics.counter("clips", "failed").inc(report.num_failed)
        for stage, seconds in report.seconds.items():
            Metrics.counter("milliseconds", stage).inc(round(seconds * 1000))
        yield report


class MakeShards(beam.PTransform):  # type: ignore[misc]
    """Shard specifications -> their reports, in parallel."""

    def __init__(self, specs: Sequence[ShardSpec], hints: Mapping[str, str] | None = None) -> None:
        """`hints`: what a worker needs, as Beam names it (`min_ram`, `accelerator`); engines that know no hints ignore
        them."""
        super().__init__()
        self._specs, self._hints = specs, dict(hints or {})

    def expand(self, pipeline: PBegin) -> PCollection:
        """Create, Reshuffle (so that each shard can go to its own worker), ParDo."""
        return (
            pipeline
            | "Shard specs" >> beam.Create(self._specs)
            | "One shard each" >> beam.Reshuffle()
            | "Process shard" >> beam.ParDo(ProcessShard()).with_resource_hints(**self._hints)
        )
