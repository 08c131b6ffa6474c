"""Find the base model named on the command line: the bundled one, a path or URL, or a model in the MLflow registry; and
the run that trained a model.

Only this module and `training.tracking.mlflow_client` import MLflow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines import storage
from training.checkpoints.shipped import named_or_shipped
from training.tracking.target import VERSION_TAG, limit_waiting, without_password

_REGISTRY = "models:/"
_SQLITE = "sqlite:///"
_DEFAULT_DATABASE = "mlflow.db"
_MANIFEST = "manifest.json"


def is_registered(model: str) -> bool:
    """Whether `model` names a model in the MLflow registry."""
    return model.startswith(_REGISTRY)


def locate(model: str | None, tracking_uri: str | None = None) -> str:
    """Return the path or URL of the bundle that `model` names, without reading it.

    Args:
        model: path or URL of a folder; `shipped` or None for the bundled model; or `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`, which is downloaded.
        tracking_uri: the registry if MLFLOW_TRACKING_URI is not set; default: mlflow.db in the working folder.

    Raises:
        ValueError: the registry has no such model or cannot be reached.
    """
    named = named_or_shipped(model)
    return _download(named, _registry_uri(tracking_uri)) if is_registered(named) else named


def pinned(model: str) -> str:
    """Return `models:/NAME/VERSION` for `models:/NAME@ALIAS`, and any other name unchanged.

    Workers that look an alias up one after another would get different models when it moves.

    Raises:
        ValueError: the registry has no such model or cannot be reached.
    """
    if not is_registered(model) or "@" not in model:
        return model
    uri = _registry_uri()
    from mlflow.tracking import MlflowClient

    found = _asked(model, uri, lambda: _version(MlflowClient(uri), model))
    return f"{_REGISTRY}{found.name}/{found.version}"


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


def _registry_uri(default: str | None = None) -> str:
    """Return MLFLOW_TRACKING_URI, else `default`, else the database in the working directory; a file must exist."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        _check_database(uri)
        return uri
    uri = default or f"{_SQLITE}{_DEFAULT_DATABASE}"
    path = uri.removeprefix(_SQLITE)
    if path != uri and not Path(path).exists():
        raise ValueError(f"MLFLOW_TRACKING_URI is not set and there is no {path} here: which registry?")
    return uri


@lru_cache(maxsize=8)
def _download(model: str, tracking_uri: str) -> str:
    """Download a registered model to a local folder; cached for the life of the process."""
    from mlflow.artifacts import download_artifacts
    from mlflow.tracking import MlflowClient

    def download() -> str:
        # Given the name itself, MLflow would look in the registry that the process has by default.
        client = MlflowClient(tracking_uri)
        found = _version(client, model)
        source = client.get_model_version_download_uri(found.name, found.version)
        return str(download_artifacts(artifact_uri=source, tracking_uri=tracking_uri))

    return str(_asked(model, tracking_uri, download))


def _version(client: Any, model: str) -> Any:
    """Return the registered version of models:/NAME@ALIAS or models:/NAME/VERSION."""
    named = model.removeprefix(_REGISTRY)
    name, at, alias = named.partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, _, version = named.rpartition("/")
    return client.get_model_version(name, version)


def _asked(model: str, uri: str, action: Callable[[], Any]) -> Any:
    """Call `action`, which asks the registry at `uri`. Raises ValueError with one line."""
    limit_waiting()
    try:
        return action()
    except Exception as error:  # artifact stores raise many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model} cannot be had from {without_password(uri)}: {without_password(reason)}") from error


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
    uri = tracking_uri or _registry_uri()
    _check_database(uri)
    limit_waiting()
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
        raise ValueError(f"MLflow at {without_password(uri)} cannot be asked: {str(error).splitlines()[0]}") from error
    sources = [json.loads(each.dataset.source) for each in (run.inputs.dataset_inputs if run.inputs else ())]
    tags = run.data.tags
    return TrainedBy(
        run_id=run_id,
        server=without_password(uri),
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
    path = uri.removeprefix(_SQLITE)
    if path != uri and not Path(path).exists():
        raise ValueError(f"MLflow cannot be asked: {path} does not exist")
