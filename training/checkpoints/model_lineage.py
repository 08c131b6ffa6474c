"""Where a base model comes from: its MLflow run and its data set, as its avatars and their films name them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines import storage
from training.checkpoints.shipped import SHIPPED

RUN_FILE = "run.json"
_CARD = "README.md"
_CARD_LINE = re.compile(r"^- MLflow run: `([0-9a-zA-Z_-]{1,64})`$", re.MULTILINE)


@dataclass(frozen=True)
class ModelLineage:
    """What of a model's training is known; None where it is not."""

    mlflow_run: str | None = None
    dataset_digest: str | None = None
    """sha256 of the dataset.json of the last training."""


def run_line(run_id: str) -> str:
    """Return the line of a model card that names the run."""
    return f"- MLflow run: `{run_id}`"


def run_of(model: str) -> str | None:
    """Return the MLflow run that trained the bundle in a folder: of its run.json, else of its card; else None."""
    url = storage.join(model, RUN_FILE)
    if storage.exists(url):
        try:
            run_id = json.loads(storage.read_bytes(url))["mlflow_run"]
        except (ValueError, KeyError, TypeError):
            return None
        return run_id if isinstance(run_id, str) else None
    card = storage.join(model, _CARD)
    named = _CARD_LINE.search(storage.read_bytes(card).decode(errors="replace")) if storage.exists(card) else None
    return named[1] if named else None


def is_shipped(version: str) -> bool:
    """Whether a version is that of the bundled base model."""
    return version == shipped_version()


def shipped_version() -> str:
    """Return the version of the bundled base model."""
    return _shipped()[0]


def known_lineage(version: str) -> ModelLineage:
    """Return the lineage of the bundled model for its version, for avatars that do not record it; else an empty one."""
    return _shipped()[1] if is_shipped(version) else ModelLineage()


@cache
def _shipped() -> tuple[str, ModelLineage]:
    folder = Path(SHIPPED)
    digest = json.loads((folder / "config.json").read_bytes())["origin"]["dataset_digest"]
    version = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return version, ModelLineage(run_of(SHIPPED), digest)
