"""The wiring: what Beam is asked for."""

from dataclasses import asdict
from pathlib import Path

import pytest

from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import write_plan
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.planned_shards import PlanReference
from pipelines.preprocess.shard_worker import WorkerOptions


@pytest.mark.slow
def test_workers_are_asked_for_what_a_shard_needs() -> None:
    import apache_beam as beam

    from pipelines.preprocess.beam.transforms import MakeShards

    hints = {"accelerator": "type:nvidia-tesla-t4;count:1;install-nvidia-driver", "min_ram": "8GB"}
    pipeline = beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    _ = pipeline | MakeShards(PlanReference("gs://b/set", "gs://b/videos", WorkerOptions()), hints)
    asked = [
        dict(environment.resource_hints) for environment in pipeline.to_runner_api().components.environments.values()
    ]
    assert {
        "beam:resources:accelerator:v1": b"type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        "beam:resources:min_ram_bytes:v1": b"8000000000",
    } in asked


@pytest.mark.slow
def test_11_the_graph_does_not_grow_with_the_clips(tmp_path: Path) -> None:
    """Dataflow takes graphs up to 10 MB. The place of a plan is all that a job is told of it."""
    import apache_beam as beam

    from pipelines.preprocess.beam.transforms import MakeShards, unfinished_specs

    sizes = []
    for name, num_shards in (("few", 2), ("lot", 200)):
        root = str(tmp_path / name)
        shards = [
            [PlannedClip(ClipKey(f"p{shard}", "v", "a"), f"{shard}.mp4", 10 + shard, "train", shard)]
            for shard in range(num_shards)
        ]
        write_plan(root, {"file_layout": "hive", "clip": asdict(ClipConfig())}, "/films", shards)
        reference = PlanReference(root, "/films", WorkerOptions())
        pipeline = beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
        _ = pipeline | MakeShards(reference)
        sizes.append(pipeline.to_runner_api().ByteSize())
        assert [spec.shard for spec in unfinished_specs(reference)] == [*reversed(range(num_shards))]
    assert max(sizes) < 100_000
    assert abs(sizes[0] - sizes[1]) < 200  # names that Beam makes up
