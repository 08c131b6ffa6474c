"""Meta-training on two machines of one core each, by the documented commands: a worker, a machine and the command
itself are killed, and clients without the token are refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from clusters.two_nodes import kill_one, result, two_nodes, wait_until

from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import load_bundle

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]

_STEPS, _OFTEN = 60, 4
_SHORT = ("--num-steps", str(_STEPS), "--checkpoint-every", str(_OFTEN), "--episodes-per-step", "2")


def test_a_run_outlives_a_worker_a_machine_and_its_command_and_a_stranger_is_told_what_to_do(
    tmp_path: Path, make_dataset: Callable[..., ShardDataset]
) -> None:
    run = tmp_path / "run"
    places = {"gs://my-bucket/vox2": make_dataset("ann/v1", "bob/v1").root, "gs://my-bucket/runs/demo": str(run)}

    def newest() -> int:
        """The step of the newest complete checkpoint."""
        found = run.glob("checkpoints/meta-train/step-*/manifest.json")
        return max((int(path.parent.name.split("-")[1]) for path in found), default=0)

    with two_nodes(tmp_path) as cluster:
        command = cluster.command("meta-train", places, *_SHORT)
        told = f"sfumato meta-train: error: --ray-address {cluster.address}: "
        do = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on a machine"
        for said, reason in zip(
            cluster.refusals([*command, "--mlflow", f"sqlite:///{tmp_path}/strangers.db"]),
            ("it takes a token, and none is sent", "there is no token here", "it refuses this process's token"),
            strict=True,
        ):
            assert said.splitlines()[-1] == f"{told}{reason}: {do} of the cluster"
            assert "Traceback" not in said
        assert not newest()
        (run / "run.json").unlink()  # names the strangers' MLflow

        with cluster.started(command) as training:
            for harm in (lambda: kill_one(cluster.second, "ray::RayTrainWorker"), cluster.second.kill, training.kill):
                before = newest()
                wait_until(lambda before=before: newest() > before, training, "a checkpoint")
                harm()
        before = newest()
        assert 0 < before < _STEPS
        with cluster.started(command, host="elsewhere") as resumed:
            made = result(resumed)
    assert made["counts"]["steps"] == _STEPS
    assert load_bundle(str(run)).origin.step == _STEPS
    record = json.loads((run / "run.json").read_text())
    assert len(record["starts"]) >= 2
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [(record["mlflow_run"], "FINISHED")]
        ((last,),) = database.execute("select max(step) from metrics where key = 'generator'").fetchall()
    assert last == _STEPS
