"""MLflow itself: a database, and a server that is killed and comes back. It takes seconds to import, hence slow."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.dataset.reader import ShardDataset
from training.config import TrainConfig
from training.tracking.records import Files, Metrics, Params, Record, Registration, Status, Tags
from training.tracking.sender import Refused, Unreachable
from training.tracking.target import ALIAS, REGISTERED_MODEL, Target
from training.tracking.tracker import Tracker, start_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
IMAGE = np.zeros((4, 6, 3), np.uint8)
Start = Callable[..., Tracker]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def target(database: Path, tmp_path: Path) -> Target:
    """A training of its own in the database."""
    return Target(f"sqlite:///{database}", (tmp_path / "files").as_uri(), tmp_path.name, "demo", "k" * 32)


@pytest.fixture
def start(tmp_path: Path, tiny_train: Callable[..., TrainConfig], make_dataset: Callable[..., ShardDataset]) -> Start:
    """`start(target, **facts)`: the log of a training on a small data set."""
    dataset = make_dataset("ann/v1")

    def begin(target: Target, *, num_steps: int = 3, **facts: str) -> Tracker:
        config = tiny_train(warp_prior=True, num_steps=num_steps)
        return start_run(
            target,
            str(tmp_path / "journal"),
            config=config,
            dataset=dataset.root,
            dataset_digest=dataset.manifest.digest,
            facts=facts,
        )

    return begin


def runs_of(target: Target) -> tuple[Any, list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(target.uri)
    (experiment,) = client.search_experiments(filter_string=f"name = '{target.experiment}'")
    return client, list(client.search_runs([experiment.experiment_id]))


def history(client: Any, run_id: str, name: str) -> list[tuple[int, float, int]]:
    return [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, name)]


def text_of(client: Any, run_id: str, name: str, folder: Path) -> str:
    return Path(client.download_artifacts(run_id, name, str(folder))).read_text()


def test_one_run_holds_a_training_and_its_restart(
    target: Target, start: Start, tmp_path: Path, make_dataset: Callable[..., ShardDataset]
) -> None:
    first = start(target, command="sfumato meta-train demo --mlflow http://ann:secret@host", code_version="1")
    first.log_metrics(1, {"content": 3.0, "generator": 5.0}, 1000)
    first.log_metrics(2, {"content": 2.5}, 2000)
    assert first.finish("KILLED") == ""
    second = start(target, num_steps=9, code_version="2")  # without the id, as after a kill
    assert second.run_id == first.run_id
    second.log_metrics(2, {"content": 2.5}, 3000)  # the restart repeats a step
    second.log_metrics(3, {"content": 2.0}, 4000)
    second.log_samples(3, IMAGE)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "config.json").write_text("{}")
    second.log_files(str(tmp_path / "bundle"), ["config.json"], "model")
    assert second.finish("FINISHED") == ""
    client, (run,) = runs_of(target)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (first.run_id, "demo", "FINISHED")
    assert history(client, run.info.run_id, "content") == [(1, 3.0, 1000), (2, 2.5, 2000), (3, 2.0, 4000)]
    assert run.data.params["model.warp_prior"] == "True"
    assert run.data.params["losses.feature_matching"] == "10.0"
    assert run.data.params["num_steps"] == "3"  # what it began with
    config = json.loads(text_of(client, run.info.run_id, "config.json", tmp_path))
    assert config["num_steps"] == 9
    assert config["model"]["generator_channels"] == [4, 8]
    digest = make_dataset("ann/v1").manifest.digest
    assert run.data.tags["dataset_digest"] == digest
    assert run.data.tags["command"] == "sfumato meta-train demo --mlflow http://host"
    assert run.data.tags["code_version"] == "2"
    assert [inputs.dataset.digest for inputs in run.inputs.dataset_inputs] == [digest[:36]]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == ["samples/step-0000003.png"]
    assert text_of(client, run.info.run_id, "model/config.json", tmp_path) == "{}"
    assert not list((tmp_path / "journal").iterdir())


@pytest.fixture
def run(target: Target) -> Any:
    from training.tracking.mlflow_client import connect

    return connect(target)


def test_records_sent_twice_are_there_once(target: Target, run: Any, tmp_path: Path) -> None:
    from training.tracking.mlflow_client import connect

    (tmp_path / "manifest.json").write_text("{}")
    records: list[list[Record]] = [
        [Status("RUNNING", 1)],
        [Params({"a": "1", "b": "x" * 9000})],
        [Tags({"a": "y" * 9000})],
        [Metrics(1, {"m": 1.0}, 10), Metrics(2, {"m": float("nan"), "n": float("inf")}, 20)],
        [Files(str(tmp_path), ("manifest.json",), "model")],
        [Registration("model", "v" * 64, "words " * 2000, {"step": "2"}, 5)],
        [Status("FINISHED", 30)],
    ]
    for each in (run, connect(target)):
        for batch in records:
            each.deliver(batch)
    client, (found,) = runs_of(target)
    assert [step for step, _, _ in history(client, found.info.run_id, "m")] == [1, 2]
    assert len(client.get_metric_history(found.info.run_id, "n")) == 1
    assert (found.info.status, found.info.end_time) == ("FINISHED", 30)
    versions = [v for v in client.search_model_versions(f"name = '{REGISTERED_MODEL}'") if v.run_id == run.id]
    assert len(versions) == 1
    assert versions[0].tags["step"] == "2"
    assert versions[0].description.startswith("words words")
    assert Path(versions[0].source.removeprefix("file://"), "manifest.json").read_text() == "{}"


def test_the_newest_model_is_the_champion_whatever_arrives_last(target: Target, run: Any) -> None:
    from mlflow.tracking import MlflowClient

    def champion() -> str:
        version = MlflowClient(target.uri).get_model_version_by_alias(REGISTERED_MODEL, ALIAS)
        return str(version.tags["bundle_version"])

    late = 10**15
    for version, timestamp_ms, expected in (("b", late, "b"), ("a", late - 1, "b"), ("b", late, "b"), ("c", late, "c")):
        run.deliver([Registration("model", version, "", {}, timestamp_ms)])
        assert champion() == expected


def test_a_run_that_somebody_deleted_is_made_anew(target: Target, run: Any) -> None:
    import dataclasses

    from mlflow.tracking import MlflowClient

    from training.tracking.mlflow_client import connect

    MlflowClient(target.uri).delete_run(run.id)
    assert connect(dataclasses.replace(target, run_id=run.id)).id != run.id
    assert connect(dataclasses.replace(target, run_id="0" * 32)).id != run.id


def test_a_record_that_mlflow_will_never_take_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"gone\.bin is gone"):
        run.deliver([Files(str(tmp_path), ("gone.bin",), "model")])
    with pytest.raises(Refused, match=r"name\?"):
        run.deliver([Metrics(1, {"name?": 1.0}, 0)])


def test_67_a_server_that_nobody_started_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from training.tracking.mlflow_client import connect

    with pytest.raises(Unreachable, match=r"^API request to http://127\.0\.0\.1:\d+/\S+ failed$"):
        connect(Target(f"http://127.0.0.1:{free_port()}", None, "e", "n", "k"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real server on one port, over one database."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.port, self.folder, self.database = free_port(), folder, database
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        arguments = f"server --host 127.0.0.1 --port {self.port} --workers 1".split()
        stores = [
            "--backend-store-uri",
            f"sqlite:///{self.database}",
            "--artifacts-destination",
            str(self.folder / "a"),
        ]
        command = [sys.executable, "-m", "mlflow", *arguments, *stores]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, **quiet, env=environment, start_new_session=True)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert self.process.poll() is None
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    server = Server(tmp_path, database)
    yield server
    server.kill()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.long
def test_67_mlflow_away_at_the_start_in_the_middle_and_at_the_end(
    server: Server, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run, every step once, in order."""
    from training.tracking import sender

    monkeypatch.setattr(sender, "RETRY_SECONDS", 0.5)
    target = Target(f"http://127.0.0.1:{server.port}", None, tmp_path.name, "demo", "k" * 32)
    first = start(target)
    assert first.run_id is None
    first.log_metrics(1, {"content": 3.0}, 1)
    assert "are kept in" in first.finish("FAILED")  # and the command ends before the server comes
    second = start(target)
    second.log_metrics(1, {"content": 3.0}, 2)
    second.log_samples(1, IMAGE)
    server.begin()
    wait_until(lambda: second.run_id is not None)
    second.log_metrics(2, {"content": 2.0}, 3)
    client, _ = runs_of(target)
    wait_until(lambda: len(client.get_metric_history(second.run_id, "content")) == 2)
    server.kill()
    second.log_metrics(3, {"content": 1.0}, 4)
    second.log_metrics(4, {"content": 0.5}, 5)
    assert "are kept in" in second.finish("FINISHED")
    server.begin()
    assert Tracker(target, str(tmp_path / "journal")).finish(None) == ""
    client, (run,) = runs_of(target)
    assert (run.info.run_id, run.info.status) == (second.run_id, "FINISHED")
    steps = [(step, value) for step, value, _ in history(client, run.info.run_id, "content")]
    assert steps == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == ["samples/step-0000001.png"]


def test_an_address_that_is_no_mlflow_is_refused(start: Start, tmp_path: Path) -> None:
    for uri in ("./mlruns", "htp://host", "file:///x"):
        with pytest.raises(ValueError, match=r"MLflow keeps runs on a server or in a database .* not in '"):
            start(Target(uri, None, "e", "n", "k"))


def test_67_an_evaluation_for_a_server_that_is_away_is_refused_without_minutes_of_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.tracking.mlflow_client import log_evaluation

    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "0")  # so that what is set below ends with the test
        monkeypatch.delenv(name)
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ValueError, match=r"did not take the evaluation: API request to") as caught:
        log_evaluation(uri, None, "e", artifact_root=None, metrics={"lpips": 0.1}, texts={})
    # One more try, of ten seconds at most; MLflow's own default is seven, with longer and longer pauses: four minutes.
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert "\n" not in str(caught.value)
