"""Which run of which MLflow server a training logs to."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGISTERED_MODEL = "sfumato-base"


ALIAS = "champion"


@dataclass(frozen=True)
class Target:
    """Which run of which server. Plain data."""

    uri: str
    artifact_root: str | None
    """Where a new experiment keeps its files; None leaves it to the server."""
    experiment: str
    name: str
    key: str
    """Unique to the training: with it the run is found again when nobody could note its id."""
    run_id: str | None = None
    """Of a run that was begun before."""


_SQLITE = "sqlite:///"


def make_target(
    uri: str, artifact_root: str | None, experiment: str, name: str, record: Mapping[str, Any] | None = None
) -> Target:
    """The MLflow run of a training.

    Args:
        uri: MLflow's address; the path of an SQLite file becomes absolute.
        artifact_root: where a new experiment keeps its files; by default `mlartifacts` beside an SQLite file.
        record: what run.json says, if the run was started before.
    """
    record = record or {}
    if uri.startswith(_SQLITE):
        path = Path(uri.removeprefix(_SQLITE)).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{_SQLITE}{path}"
        artifact_root = artifact_root or (path.parent / "mlartifacts").as_uri()
    key = record.get("mlflow_key") or uuid.uuid4().hex
    return Target(uri, artifact_root, experiment, name, key, record.get("mlflow_run"))
