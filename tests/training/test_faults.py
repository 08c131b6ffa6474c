"""A worker killed, a machine announced to go and gone: one run, to its end. In a process and a Ray of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.shards import ShardDataset
from training.checkpoint import load_bundle
from training.config import TrainConfig

_STEPS = 120
_ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.3",
}


class Faults:
    """Called with every piece of progress; does the next thing when its time has come."""

    def __init__(self, cluster: Any, leaving: Any) -> None:
        self.cluster, self.leaving = cluster, leaving
        self.done: dict[str, int] = {}
        self.seen = 0

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, at in (("kill", 10), ("announce", 40), ("remove", 55)):
            if name not in self.done and step >= at:
                getattr(self, name)()
                self.done[name] = step
                return

    def kill(self) -> None:
        import psutil

        workers = [p for p in psutil.process_iter(["name", "cmdline"]) if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])]
        print([w.info for w in workers], file=sys.stderr)
        workers[-1].kill()

    def announce(self) -> None:
        import ray
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        client = GcsClient(address=ray.get_runtime_context().gcs_address)
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        print(client.drain_node(self.leaving.node_id, reason, "spot", int((time.time() + 120) * 1000)), file=sys.stderr)

    def remove(self) -> None:
        self.cluster.remove_node(self.leaving, allow_graceful=False)


def main(folder: Path) -> None:
    import ray
    from pydantic import TypeAdapter
    from ray.cluster_utils import Cluster as LocalCluster

    from training.distributed import Cluster, fit
    from training.tracker import Target, start_run

    config = TypeAdapter(TrainConfig).validate_json((folder / "config.json").read_bytes())
    dataset = ShardDataset(str(folder / "set"))
    nodes = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
    leaving = nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    ray.init(address=nodes.address, log_to_driver=False)
    uri = f"sqlite:///{folder}/mlflow.db"
    target = Target(uri, (folder / "files").as_uri(), "test", "run", "k" * 32)
    tracker = start_run(target, str(folder / "journal"), config=config, dataset=dataset)
    faults = Faults(nodes, leaving)
    cluster = Cluster(2, gpus=False, address=nodes.address, min_workers=1)
    t = time.time()
    def prog(step, metrics):
        if step != faults.seen:
            print(f"{time.time()-t:.1f} step {step} {metrics.get('workers')}", file=sys.stderr); faults.seen = step
        faults(step, metrics)
    checkpoint = fit(config, dataset.root, str(folder / "run"), cluster, tracker, prog)
    tracker.finish("FINISHED")
    (folder / "outcome.json").write_text(json.dumps({"checkpoint": checkpoint, "done": faults.done, "run": tracker.run_id}))
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_80_81_82_a_run_outlives_a_killed_worker_and_a_lost_machine(
    tmp_path: Path, tiny_train: Callable[..., TrainConfig], make_dataset: Callable[..., ShardDataset]
) -> None:
    from dataclasses import asdict
    make_dataset("ann/v1", "bob/v1", "cyd/v1")
    config = tiny_train(num_steps=_STEPS, checkpoint_every=5, episodes_per_step=12)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=os.environ | _ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    print(outcome)
    print(done.stderr[-3000:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
