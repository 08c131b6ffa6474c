"""The real command beside an MLflow that is away: it trains, and hands in its log when it is run again."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import load_bundle, newest_intact
from training.commands.meta_train import Options
from training.meta_training.ray_train import checkpoints_of
from training.meta_training.run_record import write_record
from training.tracking.sender import Unreachable
from training.tracking.target import make_target
from training.tracking.tracker import Tracker

NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "options",
    [
        Options("demo", "run", "set"),
        Options("demo", "run", synthetic=True, synthetic_identities=9),
        Options("small", "run", "a set", num_steps=3, gpus=True, mlflow="http://host:5000", min_workers=2),
    ],
)
def test_the_command_line_on_the_card_asks_for_the_same(options: Options) -> None:
    import shlex

    words = shlex.split(options.command_line())
    assert words[:2] == ["sfumato", "meta-train"]
    assert tyro.cli(Options, args=words[2:]) == options


def test_no_password_is_on_the_card() -> None:
    options = Options("demo", "run", "set", mlflow="http://ann:secret@host:5000")
    assert options.command_line() == "sfumato meta-train demo --data set -o run --mlflow http://host:5000"


def test_an_sqlite_file_keeps_its_pictures_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = make_target("sqlite:///logs/m.db", None, "e", "n")
    assert target.uri == f"sqlite:///{tmp_path}/logs/m.db"
    assert target.artifact_root == f"file://{tmp_path}/logs/mlartifacts"
    assert make_target("http://host", None, "e", "n", out="gs://b/runs/a").artifact_root is None


def test_a_database_without_a_server_keeps_its_pictures_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out, root in (
        ("gs://b/runs/a", "gs://b/runs/mlartifacts"),
        ("runs/a", f"file://{tmp_path}/runs/mlartifacts"),
        ("a", f"file://{tmp_path}/mlartifacts"),
    ):
        assert make_target("postgresql://host/mlflow", None, "e", "n", out=out).artifact_root == root
    named = make_target("postgresql://host/mlflow", "gs://other", "e", "n", out="gs://b/runs/a")
    assert named.artifact_root == "gs://other"


@pytest.mark.slow
def test_a_restart_finds_its_run_by_the_key_it_noted(
    tmp_path: Path, tiny_train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(tracker: Tracker) -> None:
        raise Unreachable("away")

    monkeypatch.setattr(Tracker, "_connect", connect)
    tracker = Tracker(make_target(NOBODY, None, "e", "n"), str(tmp_path / "journal"))
    write_record(str(tmp_path), tracker, ("then",), tiny_train())
    tracker.finish(None)
    record = json.loads((tmp_path / "run.json").read_text())
    assert make_target(NOBODY, None, "e", "n", record).key == tracker.target.key
    assert (record["mlflow_run"], record["starts"]) == (None, ["then"])


def sfumato(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "sfumato", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.long
def test_sigterm_ends_the_command_with_a_checkpoint_and_exit_code_130(
    tmp_path: Path, make_dataset: Callable[..., ShardDataset], ray_address: str
) -> None:
    root, out, log = make_dataset("ann/v1", "bob/v1").root, str(tmp_path / "run"), tmp_path / "mlflow.db"
    flags = ["meta-train", "demo", "--data", root, "-o", out, "--num-steps", "100000", "--workers", "1"]
    flags += ["--num-shots", "1", "--episodes-per-step", "2", "--mlflow", f"sqlite:///{log}"]
    flags += ["--ray-address", ray_address]
    command = [sys.executable, "-m", "sfumato", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while not _has_stepped(log):
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 130, said
    assert "stopping at the next checkpoint" in said
    newest, damage = newest_intact(checkpoints_of(out))
    assert damage == []
    assert newest is not None
    assert load_bundle(newest).origin.step >= 1


def _has_stepped(log: Path) -> bool:
    if not log.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(log)) as database:
            return bool(database.execute("select 1 from metrics where key = 'generator'").fetchall())
    except sqlite3.OperationalError:  # no table yet, or locked
        return False


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_67_the_command_trains_without_mlflow_and_sends_its_log_later(
    tmp_path: Path, make_dataset: Callable[..., ShardDataset], ray_address: str
) -> None:
    from mlflow.tracking import MlflowClient

    root, out = make_dataset("ann/v1", "bob/v1").root, str(tmp_path / "run")
    flags = ["meta-train", "demo", "--data", root, "-o", out, "--num-steps", "2", "--workers", "1"]
    flags += ["--num-shots", "1", "--episodes-per-step", "2", "--ray-address", ray_address]
    made = sfumato(*flags, "--mlflow", NOBODY)
    assert "are kept in" in made["notes"][-1]
    assert f"{out}/mlflow-journal" in made["notes"][-1]
    model = load_bundle(out)
    card = Path(out, "README.md").read_text()
    assert model.version in card
    assert "- Device: CPU" in card
    assert "- Workers: 1" in card

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sent = sfumato(*flags, "--mlflow", uri)
    assert sent["notes"][-2:] == ["already trained: nothing to do", "the log that was kept is in MLflow now"]
    assert sfumato(*flags, "--mlflow", uri)["notes"][-1] == "already trained: nothing to do"
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'sfumato'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    wanted = {"generator", "content", "discriminator", "learning_rate", "gradient_norm_generator", "images_per_second"}
    wanted |= {"data_wait_share", "skipped_steps", "system/cpu_utilization_percentage", "content_fixed_episodes"}
    assert wanted <= run.data.metrics.keys()
    assert [m.step for m in client.get_metric_history(run.info.run_id, "generator")] == [2]
    assert {"command", "code_version", "device", "machine", "dataset_digest"} <= run.data.tags.keys()
    version = client.get_model_version_by_alias("sfumato-base", "champion")
    assert version.tags["bundle_version"] == model.version
    assert version.description in card
    assert load_bundle(version.source.removeprefix("file://")).version == model.version
