"""Find the base model named on the command line: the bundled one, a path or URL, or a model in the MLflow registry.

Only this module and `training.tracking.mlflow_client` import MLflow.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pipelines import storage
from training.checkpoints.shipped import named_or_shipped

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
