"""The MLflow server starts as compose and Kubernetes start it, on a real Postgres, and takes runs of known users."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from kustomize import KUBERNETES
from postgres import postgres_server, run_sql

from training.config import TrainConfig
from training.presets import PRESETS

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # MLflow's own

COMPOSE = Path(__file__).parents[2] / "infra" / "mlflow"
SECRETS = {
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password-1",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
    "PGUSER": "mlflow",
    "PGPASSWORD": "p",
}


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def compose_flags() -> list[str]:
    """The server's command of compose, its variables at their defaults."""
    server = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["mlflow"]
    assert server["environment"].keys() >= SECRETS.keys()
    assert server["command"][:2] == ["mlflow", "server"]
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", each) for each in server["command"][2:]]


def kubernetes_flags() -> list[str]:
    documents = yaml.safe_load_all((KUBERNETES / "base" / "mlflow" / "mlflow.yaml").read_text())
    (pod,) = (each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment")
    (server,) = pod["containers"]
    assert {each["name"] for each in server["env"]} >= SECRETS.keys() | {"PGHOST"}
    assert server["command"] == ["mlflow", "server"]
    return list(server["args"])


@contextmanager
def mlflow_server(
    flags: Sequence[str], auth: Path, folder: Path, port: int, variables: Mapping[str, str]
) -> Iterator[str]:
    """Yield the address of a server with these flags once it is healthy, by the path and name that probes use."""
    config, said = folder / "auth.ini", folder / "server.log"
    config.write_text(placed(auth.read_text(), folder, port))
    command = [Path(sys.executable).with_name("mlflow"), "server", *(placed(each, folder, port) for each in flags)]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MLFLOW"))}
    environment = known | SECRETS | variables | {"MLFLOW_AUTH_CONFIG_PATH": str(config)}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    with said.open("w") as log:
        server = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, text=True, start_new_session=True
        )
    try:
        url = f"http://localhost:{port}"
        for _ in range(600):
            assert server.poll() is None, said.read_text()
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"{url}/health").read() == b"OK":
                    break
            time.sleep(0.2)
        else:
            pytest.fail(said.read_text())
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def placed(text: str, folder: Path, port: int) -> str:
    """The same with this machine's hosts, ports and paths."""
    text = text.replace("//postgres/", "//127.0.0.1/").replace("0.0.0.0", "127.0.0.1").replace("5000", str(port))
    return re.sub(r"=(/artifacts|gs://my-bucket/mlflow)$", f"={folder}/artifacts", text)


def status(url: str, *, host: str | None = None) -> int:
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Content-Type": "application/json"} | ({} if host is None else {"Host": host}),
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_both_deployments_start_on_postgres_and_take_runs_with_the_password_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, port = free_port(), free_port()
    with postgres_server(database) as folder:
        # What the image of Postgres does with compose's variables, and Terraform with its resources.
        run_sql(folder, "CREATE ROLE mlflow LOGIN SUPERUSER PASSWORD 'p'; CREATE DATABASE mlflow;")
        run_sql(folder, (COMPOSE / "create-auth-database.sql").read_text())
        place = {"PGPORT": str(database)}
        with mlflow_server(compose_flags(), COMPOSE / "auth.ini", tmp_path, port, place) as url:
            assert status(url) == 401
            assert status(url, host="evil.example") == 403
            first = trained(url, tmp_path / "first", PRESETS["demo"](), monkeypatch)
        kubernetes = KUBERNETES / "base" / "mlflow" / "auth.ini"
        place |= {"PGHOST": "127.0.0.1"}
        with mlflow_server(kubernetes_flags(), kubernetes, tmp_path, port, place) as url:
            assert status(url) == 401
            assert status(url, host=f"mlflow:{port}") == 401
            assert status(url, host="evil.example") == 403
            second = trained(url, tmp_path / "second", PRESETS["demo"](), monkeypatch)
            check_runs(url, first, second, tmp_path, monkeypatch)


def trained(url: str, folder: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """Log a training by our own client, first without a password, and register its model; return the run's id."""
    from training.tracking.target import make_target
    from training.tracking.tracker import start_run

    (folder / "model").mkdir(parents=True)
    (folder / "model" / "manifest.json").write_text("{}")
    target = make_target(url, None, "sfumato", folder.name)
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    tracker = start_run(target, str(folder / "journal"), config=config, dataset="gs://b/set", dataset_digest="d" * 64)
    kept = tracker.finish(None)
    assert "records for MLflow" in kept
    assert "401" in kept
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", SECRETS[f"MLFLOW_AUTH_ADMIN_{name}"])
    tracker = start_run(target, str(folder / "journal"), config=config, dataset="gs://b/set", dataset_digest="d" * 64)
    tracker.log_metrics(10, {"content": 0.5}, 1_700_000_000_000)
    tracker.log_files(str(folder / "model"), ["manifest.json"], "model")
    tracker.register("model", folder.name, "card", {})
    assert tracker.finish("FINISHED") == ""
    assert tracker.run_id is not None
    return tracker.run_id


def check_runs(url: str, first: str, second: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runs are there, the first by the server before, and the model's name is found by those with a password."""
    from mlflow.tracking import MlflowClient

    from training.checkpoints.model_registry import resolve

    client = MlflowClient(url)
    for run in (first, second):
        assert client.get_run(run).info.status == "FINISHED"
        assert [(point.step, point.value) for point in client.get_metric_history(run, "content")] == [(10, 0.5)]
    assert json.loads(client.get_run(second).inputs.dataset_inputs[0].dataset.source) == {"uri": "gs://b/set"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    assert (Path(resolve("models:/sfumato-base@champion")) / "manifest.json").read_text() == "{}"
    assert [*(folder / "artifacts").rglob("model/manifest.json")]
    assert client.get_model_version_by_alias("sfumato-base", "champion").run_id == second
