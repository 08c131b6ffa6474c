"""Find the base model named on the command line: the bundled one, a path or URL, or a model in the MLflow registry; and
the run that trained a model.

Only this module and `training.tracking.mlflow_client` import MLflow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines import storage
from training.checkpoints.shipped import named_or_shipped
from training.tracking.target import VERSION_TAG

_REGISTRY = "models:/"
_DEFAULT_DATABASE = "mlflow.db"
_MANIFEST = "manifest.json"


def locate(model: str | None) -> str:
    """Return the path or URL of the bundle that `model` names, without reading it.

    Args:
        model: path or URL of a folder; `shipped` or None for the bundled model; or `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`, which is downloaded.

    Raises:
        ValueError: the registry has no such model or cannot be reached.
    """
    named = named_or_shipped(model)
    return _download(named, _tracking_uri()) if named.startswith(_REGISTRY) else named


def resolve(model: str) -> str:
    """Like `locate`, and check that a bundle is there.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: it is no bundle, or the registry has no such model or cannot be reached.
    """
    url = locate(model)
    if not storage.exists(url):
        raise FileNotFoundError(f"{model} does not exist")
    if not storage.exists(storage.join(url, _MANIFEST)):
        raise ValueError(f"{model} is no base model: it holds no {_MANIFEST} (which is written last)")
    return url


def pin(model: str) -> str:
    """Return `models:/NAME/VERSION` for `models:/NAME@ALIAS`, by what the alias means now; anything else as it is.

    Raises:
        ValueError: the registry has no such model or alias, or cannot be reached.
    """
    name, _, alias = model.removeprefix(_REGISTRY).partition("@")
    if not model.startswith(_REGISTRY) or not alias:
        return model
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    uri = _tracking_uri()
    try:
        return f"{_REGISTRY}{name}/{MlflowClient(uri).get_model_version_by_alias(name, alias).version}"
    except MlflowException as error:
        raise ValueError(f"{model} cannot be had from {uri}: {str(error).splitlines()[0]}") from error


def _tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the database in the working directory, which must exist."""
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not named and not Path(_DEFAULT_DATABASE).exists():
        raise ValueError(f"MLFLOW_TRACKING_URI is not set and there is no {_DEFAULT_DATABASE} here: which registry?")
    return named or f"sqlite:///{_DEFAULT_DATABASE}"


@lru_cache(maxsize=8)
def _download(model: str, tracking_uri: str) -> str:
    """Download a registered model to a local folder; cached for the life of the process."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return str(download_artifacts(artifact_uri=model, tracking_uri=tracking_uri))
    except MlflowException as error:
        raise ValueError(f"{model} cannot be had from {tracking_uri}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class TrainedBy:
    """The MLflow run that trained a model."""

    run_id: str
    server: str
    status: str
    experiment: str
    command: str | None
    """The command that repeats the training."""
    code_version: str | None
    dataset: str | None
    """Path or URL of the data set."""
    dataset_digest: str | None
    registered: tuple[str, ...]
    """The registered versions of the model, models:/NAME/VERSION."""


def trained_by(run_id: str | None, version: str, tracking_uri: str | None = None) -> TrainedBy | None:
    """Find the run that trained a model, by its id, else by the version of the registered bundle; None: no such run.

    Args:
        version: sha256 of the bundle's manifest.
        tracking_uri: default: MLFLOW_TRACKING_URI, else mlflow.db in the working folder.

    Raises:
        ValueError: MLflow cannot be reached, or no server is named.
    """
    uri = tracking_uri or _tracking_uri()
    _check_database(uri)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(uri)
        versions = [found for found in _versions(client, run_id) if run_id or found.tags.get(VERSION_TAG) == version]
        run_id = run_id or next((found.run_id for found in versions), None)
        if run_id is None:
            return None
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise ValueError(f"MLflow at {uri} cannot be asked: {str(error).splitlines()[0]}") from error
    sources = [json.loads(each.dataset.source) for each in (run.inputs.dataset_inputs if run.inputs else ())]
    tags = run.data.tags
    return TrainedBy(
        run_id=run_id,
        server=uri,
        status=run.info.status,
        experiment=experiment.name,
        command=tags.get("command"),
        code_version=tags.get("code_version"),
        dataset=next((str(source["uri"]) for source in sources if "uri" in source), None),
        dataset_digest=tags.get("dataset_digest"),
        registered=tuple(f"{_REGISTRY}{found.name}/{found.version}" for found in versions),
    )


def _versions(client: Any, run_id: str | None) -> Sequence[Any]:
    found = client.search_model_versions("" if run_id is None else f"run_id = '{run_id}'")
    return list(found)


def _check_database(uri: str) -> None:
    """MLflow would make an empty database where there is none."""
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        raise ValueError(f"MLflow cannot be asked: {path} does not exist")
