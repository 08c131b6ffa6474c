"""Where a base model named on the command line is: a bundle's path or URL, or a name in the MLflow registry.

With `training.tracking.mlflow_client` the only place that knows MLflow.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pipelines import storage

_REGISTRY = "models:/"
_DEFAULT_DATABASE = "mlflow.db"
_MANIFEST = "manifest.json"


def resolve(model: str) -> str:
    """The path or URL of the bundle that `model` names; a registered one is downloaded first.

    Args:
        model: a folder's path or URL, or models:/NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        FileNotFoundError: there is nothing at that path.
        ValueError: it is no bundle, or the registry has no such model or cannot be reached.
    """
    if model.startswith(_REGISTRY):
        return _download(model, _tracking_uri())
    if not storage.exists(model):
        raise FileNotFoundError(f"{model} does not exist")
    if not storage.exists(storage.join(model, _MANIFEST)):
        raise ValueError(f"{model} is no base model: it holds no {_MANIFEST} (which is written last)")
    return model


def _tracking_uri() -> str:
    """The server that MLFLOW_TRACKING_URI names, else the database in this folder, which must exist."""
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not named and not Path(_DEFAULT_DATABASE).exists():
        raise ValueError(f"MLFLOW_TRACKING_URI is not set and there is no {_DEFAULT_DATABASE} here: which registry?")
    return named or f"sqlite:///{_DEFAULT_DATABASE}"


@lru_cache(maxsize=8)
def _download(model: str, tracking_uri: str) -> str:
    """A registered model's files in a local folder, kept while the process lives."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return str(download_artifacts(artifact_uri=model, tracking_uri=tracking_uri))
    except MlflowException as error:
        raise ValueError(f"{model} cannot be had from {tracking_uri}: {str(error).splitlines()[0]}") from error
