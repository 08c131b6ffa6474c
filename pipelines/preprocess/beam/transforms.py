"""The Beam PTransform and DoFns, without logic of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection

from pipelines.dataset.shard_report import ShardReport
from pipelines.preprocess.planned_shards import PlanReference
from pipelines.preprocess.shard_worker import ShardSpec, ShardWorker


def unfinished_specs(plan: PlanReference) -> Iterator[ShardSpec]:
    """Yield the specs of the shards to make, the largest first."""
    for shard in plan.unfinished():
        yield shard.spec


class ProcessShard(beam.DoFn):  # type: ignore[misc] # Beam's classes are untyped here
    """ShardSpec -> ShardReport. Models and file systems are created in the worker process."""

    def setup(self) -> None:
        """Create the worker, once per DoFn instance."""
        self._worker = ShardWorker()

    def teardown(self) -> None:
        """End the worker's decoder process."""
        self._worker.close()

    def process(self, spec: ShardSpec) -> Iterator[ShardReport]:
        """Make one shard. Yields nothing when the run has been stopped."""
        report = self._worker(spec)
        if report is None:
            return
        Metrics.counter("clips", "done").inc(report.num_done)
        Metrics.counter("clips", "rejected").inc(report.num_rejected)
        Metrics.counter("clips", "failed").inc(report.num_failed)
        Metrics.counter("frames", "kept").inc(report.num_frames)
        for code, number in report.codes.items():
            Metrics.counter("clips without a row", code).inc(number)
        for stage, seconds in report.seconds.items():
            Metrics.counter("milliseconds", stage).inc(round(seconds * 1000))
        yield report


class MakeShards(beam.PTransform):  # type: ignore[misc]
    """The unfinished shards of a plan -> their reports, in parallel.

    The graph holds the place of the plan alone, so that its size does not grow with the clips: Dataflow refuses graphs
    over 10 MB. A worker reads the plan and lists the shards.
    """

    def __init__(self, plan: PlanReference, hints: Mapping[str, str] | None = None) -> None:
        """`hints` are Beam's resource hints (`min_ram`, `accelerator`); runners without hints ignore them."""
        super().__init__()
        self._plan, self._hints = plan, dict(hints or {})

    def expand(self, pipeline: PBegin) -> PCollection:
        """Create, FlatMap (plan -> shards), Reshuffle (distributes shards over workers), ParDo."""
        return (
            pipeline
            | "Plan" >> beam.Create([self._plan])
            | "Unfinished shards" >> beam.FlatMap(unfinished_specs)
            | "One shard each" >> beam.Reshuffle()
            | "Process shard" >> beam.ParDo(ProcessShard()).with_resource_hints(**self._hints)
        )
