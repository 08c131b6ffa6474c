"""The MLflow server and run that a training logs to."""

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import storage

REGISTERED_MODEL = "sfumato-base"
ALIAS = "champion"
VERSION_TAG = "bundle_version"
"""Tag of a registered version: sha256 of the bundle's manifest."""

_SQLITE = "sqlite:///"
_ARTIFACTS = "mlartifacts"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass(frozen=True)
class Target:
    """The server and run to log to; plain data."""

    uri: str
    artifact_root: str | None
    """Artifact location of a new experiment; None: the server's choice."""
    experiment: str
    name: str
    key: str
    """Unique id of the training, by which its run is found if MLflow's id is unknown."""
    run_id: str | None = None
    """MLflow's id of an existing run."""


def make_target(
    uri: str,
    artifact_root: str | None,
    experiment: str,
    name: str,
    record: Mapping[str, Any] | None = None,
    *,
    out: str | None = None,
) -> Target:
    """Describe the MLflow run of a training.

    Args:
        uri: MLflow's address; the path of an SQLite file is made absolute and its folder created.
        artifact_root: artifact location of a new experiment; default: `mlartifacts` beside an SQLite file, with another
            database `mlartifacts` beside `out`.
        record: content of run.json, if the run was started before.
        out: path or URL of the results.
    """
    record = record or {}
    if uri.startswith(_SQLITE):
        path = Path(uri.removeprefix(_SQLITE)).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{_SQLITE}{path}"
        artifact_root = artifact_root or (path.parent / _ARTIFACTS).as_uri()
    elif artifact_root is None and out is not None and not uri.startswith(("http:", "https:")):
        # There is no server that chooses: MLflow would write into the working directory.
        beside = storage.join(storage.parent(storage.absolute(out)), _ARTIFACTS)
        artifact_root = storage.local_path(beside).as_uri() if storage.is_local(beside) else beside
    key = record.get("mlflow_key") or uuid.uuid4().hex
    return Target(uri, artifact_root, experiment, name, key, record.get("mlflow_run"))


def without_password(text: str) -> str:
    """Remove user names and passwords from URLs in `text`."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def limit_waiting() -> None:
    """Let MLflow's client give up within seconds, unless the environment says otherwise; its default is minutes."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
