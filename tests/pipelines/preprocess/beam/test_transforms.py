"""The wiring: what Beam is asked for."""

import pytest


@pytest.mark.slow
def test_workers_are_asked_for_what_a_shard_needs() -> None:
    import apache_beam as beam

    from pipelines.preprocess.beam.transforms import MakeShards
    from pipelines.preprocess.planned_shards import PlanReference
    from pipelines.preprocess.shard_worker import WorkerOptions

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
