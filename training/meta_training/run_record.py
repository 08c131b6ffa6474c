"""run.json: a run's own notes, so that a restart continues it in MLflow too, and where it logs to."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from pipelines import storage
from training.checkpoints.bundle import differences
from training.config import TrainConfig
from training.meta_training.checkpoint import MAY_CHANGE
from training.tracking.pending_records import PendingRecords
from training.tracking.target import Target
from training.tracking.tracker import Tracker

FILE = "run.json"


def read_record(out: str, config: TrainConfig) -> dict[str, Any]:
    """The run's own notes, if it was started before.

    Raises:
        ValueError: it was started with another configuration; the difference is shown.
    """
    path = storage.join(out, FILE)
    if not storage.exists(path):
        return {}
    record: dict[str, Any] = json.loads(storage.read_bytes(path))
    # A field that came after the run was started had its default then.
    before = TypeAdapter(TrainConfig).validate_python(record["config"])
    different = differences(asdict(before), asdict(config), ignore=MAY_CHANGE)
    if different:
        raise ValueError(f"{out} was started with another configuration ({'; '.join(different)}); choose another -o")
    return record


def write_record(run: str, tracker: Tracker, starts: Sequence[str], config: TrainConfig) -> None:
    """How to find the run in MLflow, when it was started, and what it was asked for."""
    notes = {"mlflow_run": tracker.run_id, "mlflow_key": tracker.target.key, "starts": starts, "config": asdict(config)}
    storage.write_bytes(storage.join(run, FILE), json.dumps(notes, indent=1).encode())


def pending_records_url(run: str) -> str:
    """The folder that keeps records while MLflow is away."""
    return storage.join(run, "mlflow-journal")


def send_pending(target: Target, run: str) -> str:
    """Send what an outage of MLflow left behind; one line about it, if there was something."""
    if not len(PendingRecords(pending_records_url(run))):
        return ""
    return Tracker(target, pending_records_url(run)).finish(None) or "the log that was kept is in MLflow now"


def utc_now() -> str:
    """For people: 2026-11-24 10:00:00."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
