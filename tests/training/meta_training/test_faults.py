"""A worker killed, a machine announced to go and gone: one run, to its end. In a process and a Ray of their own."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import load_bundle
from training.config import TrainConfig

_STEPS = 80
_ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.3",
}


class Faults:
    """Told of every step; does the next harm when its time has come."""

    def __init__(self, cluster: Any, leaving: Any) -> None:
        self.cluster, self.leaving = cluster, leaving
        self.done: dict[str, int] = {}

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        for harm, at in ((self.kill, 10), (self.announce, 30), (self.remove, 45)):
            if harm.__name__ not in self.done and step >= at:
                harm()
                self.done[harm.__name__] = step
                return

    def kill(self) -> None:
        """kill -9 of a worker."""
        import psutil

        ours = psutil.Process().children(recursive=True)  # other tests may have workers too
        next(process for process in ours if process.cmdline()[0].startswith("ray::RayTrainWorker")).kill()

    def announce(self) -> None:
        """As a cloud announces that it takes a machine back in two minutes."""
        import ray
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        client = GcsClient(address=ray.get_runtime_context().gcs_address)
        accepted, _ = client.drain_node(self.leaving.node_id, reason, "spot", int((time.time() + 120) * 1000))
        assert accepted

    def remove(self) -> None:
        self.cluster.remove_node(self.leaving, allow_graceful=False)


def main(folder: Path) -> None:
    """What the process of its own does."""
    import ray
    from pydantic import TypeAdapter
    from ray.cluster_utils import Cluster as Machines

    from training.meta_training.ray_train import Cluster, fit
    from training.tracking.records import Metrics, Record
    from training.tracking.target import Target
    from training.tracking.tracker import Tracker, start_run

    config = TypeAdapter(TrainConfig).validate_json((folder / "config.json").read_bytes())
    dataset = ShardDataset(str(folder / "set"))
    store = {"object_store_memory": 100 * 2**20}
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1, **store})
    leaving = machines.add_node(num_cpus=1, **store)
    ray.init(address=machines.address, log_to_driver=False)
    uri, files = f"sqlite:///{folder}/mlflow.db", (folder / "files").as_uri()
    target = Target(uri, files, "test", "run", "k" * 32)
    told: list[tuple[int, float, float]] = []  # MLflow keeps the first of what was measured twice
    put = Tracker.put

    def overhear(tracker: Tracker, record: Record) -> None:
        if isinstance(record, Metrics) and "workers" in record.values:
            told.append((record.step, record.values["content"], record.values["workers"]))
        put(tracker, record)

    Tracker.put = overhear  # type: ignore[method-assign]
    tracker = start_run(
        target, str(folder / "journal"), config=config, dataset=dataset.root, dataset_digest=dataset.manifest.digest
    )
    faults = Faults(machines, leaving)
    cluster = Cluster(2, gpus=False, address=machines.address, min_workers=1)
    checkpoint = fit(config, dataset.root, str(folder / "run"), cluster, tracker, faults)
    tracker.finish("FINISHED")
    outcome = {"checkpoint": checkpoint, "done": faults.done, "run": tracker.run_id, "told": told}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    ray.shutdown()
    machines.shutdown()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_80_81_82_a_run_outlives_a_killed_worker_and_an_announced_loss_of_a_machine(
    tmp_path: Path, tiny_train: Callable[..., TrainConfig], make_dataset: Callable[..., ShardDataset]
) -> None:
    from mlflow.tracking import MlflowClient

    make_dataset("ann/v1", "bob/v1", "cyd/v1")
    # No checkpoint comes by itself: only the announcement and the last step make one. At a tenth of the paper's rates
    # rounding, which is another with another number of workers, stays small however long a busy machine takes.
    rates = {"learning_rate": 5e-6, "learning_rate_discriminator": 2e-5}
    config = tiny_train(num_steps=_STEPS, checkpoint_every=1000, episodes_per_step=6, **rates)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    command, environment = [sys.executable, __file__, str(tmp_path)], os.environ | _ENVIRONMENT
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert list(outcome["done"]) == ["kill", "announce", "remove"]
    assert load_bundle(outcome["checkpoint"]).origin.step == _STEPS

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_run(outcome["run"]).info.experiment_id])
    assert run.info.status == "FINISHED"
    logged = [metric.step for metric in client.get_metric_history(run.info.run_id, "content")]
    assert sorted(logged) == list(range(1, _STEPS + 1))  # none missing, none twice
    losses, workers = defaultdict(list), {}
    for step, content, number in outcome["told"]:
        losses[step].append(content)
        workers[step] = number
    # Steps that had to be made again gave the same loss, by two workers or by one.
    for step, values in losses.items():
        assert values == pytest.approx([values[0]] * len(values), rel=1e-3), step
    again = sorted(step for step, values in losses.items() if len(values) > 1)
    announced = outcome["done"]["announce"]
    assert again[0] == 1  # when the worker was killed there was no checkpoint yet
    after_loss = [step for step in again if step > outcome["done"]["kill"] + 5]
    assert after_loss
    assert after_loss[0] > announced  # when the machine went there was one, made when that was announced
    assert (workers[announced], workers[_STEPS]) == (2, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
