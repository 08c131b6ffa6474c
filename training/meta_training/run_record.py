"""run.json: a run's configuration, starts and MLflow run, with which a restart continues it."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from pipelines import storage
from training.checkpoints.bundle import differences
from training.checkpoints.model_lineage import RUN_FILE
from training.config import TrainConfig
from training.meta_training.checkpoint import MAY_CHANGE
from training.tracking.pending_records import PendingRecords
from training.tracking.target import Target
from training.tracking.tracker import Tracker

FILE = RUN_FILE


def read_record(out: str, config: TrainConfig) -> dict[str, Any]:
    """Return the content of run.json, or an empty dict for a new run.

    Raises:
        ValueError: the run was started with another configuration; the message shows the differences.
    """
    path = storage.join(out, FILE)
    if not storage.exists(path):
        return {}
    record: dict[str, Any] = json.loads(storage.read_bytes(path))
    # A field that did not exist when the run was started has its default.
    before = TypeAdapter(TrainConfig).validate_python(record["config"])
    different = differences(asdict(before), asdict(config), ignore=MAY_CHANGE)
    if different:
        raise ValueError(f"{out} was started with another configuration ({'; '.join(different)}); choose another -o")
    return record


def write_record(run: str, tracker: Tracker, starts: Sequence[str], config: TrainConfig) -> None:
    """Write run.json: the ids of the MLflow run, the times of all starts, and the configuration."""
    record = {
        "mlflow_run": tracker.run_id,
        "mlflow_key": tracker.target.key,
        "starts": starts,
        "config": asdict(config),
    }
    storage.write_bytes(storage.join(run, FILE), json.dumps(record, indent=1).encode())


def pending_records_url(run: str) -> str:
    """Return the folder that holds records until MLflow has accepted them."""
    return storage.join(run, "mlflow-journal")


def send_pending(target: Target, run: str) -> str:
    """Send records that an earlier start could not; return a one-line note, empty if there were none."""
    if not len(PendingRecords(pending_records_url(run))):
        return ""
    return Tracker(target, pending_records_url(run)).finish(None) or "the log that was kept is in MLflow now"


def utc_now() -> str:
    """Return the present time in UTC as 2026-11-24 10:00:00."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
