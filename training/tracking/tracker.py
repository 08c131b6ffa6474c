"""Log a training to one MLflow run across restarts, with a queue on disk while MLflow is unreachable.

Only the command's process connects to MLflow, from one thread (training.tracking.sender); workers create records
(training.tracking.records). That thread imports MLflow (training.tracking.mlflow_client), which takes seconds.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt8

from pipelines import storage
from training.config import TrainConfig
from training.tracking.pending_records import PendingRecords
from training.tracking.records import (
    Files,
    Lineage,
    Metrics,
    Params,
    Record,
    Registration,
    Status,
    Tags,
    Text,
    sample_picture,
)
from training.tracking.sender import Sender
from training.tracking.target import ALIAS, REGISTERED_MODEL, Target, without_password

if TYPE_CHECKING:
    from training.tracking.mlflow_client import MlflowRun

_FIRST_CONTACT_SECONDS = 30.0
_SERVERS = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


class Tracker:
    """The log of a training. Only `wait_for_contact` and `finish` wait for MLflow."""

    def __init__(self, target: Target, pending: str) -> None:
        """Start sending, beginning with records left by an earlier start.

        Args:
            pending: path or URL of the folder that holds records until MLflow has accepted them.
        """
        self.target = target
        self._run: MlflowRun | None = None
        self.tags: dict[str, str] = {}
        """Tags logged by workers so far."""
        self._sender = Sender(PendingRecords(pending), self._connect)

    def _connect(self) -> "MlflowRun":
        from training.tracking.mlflow_client import connect

        self._run = connect(self.target)
        return self._run

    @property
    def run_id(self) -> str | None:
        """MLflow's id; None until the run has been found or created."""
        return self._run.id if self._run else self.target.run_id

    def wait_for_contact(self, seconds: float = _FIRST_CONTACT_SECONDS) -> None:
        """Wait for the first attempt to connect."""
        self._sender.tried.wait(seconds)

    def put(self, record: Record) -> None:
        """Log a record."""
        if isinstance(record, Tags):
            self.tags |= record.values
        self._sender.put(record)

    def log_metrics(self, step: int, metrics: Mapping[str, float], timestamp_ms: int) -> None:
        """Log metrics of a step."""
        self.put(Metrics(step, dict(metrics), timestamp_ms))

    def log_samples(self, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Log a grid of samples."""
        self.put(sample_picture(step, image))

    def log_files(self, folder: str, names: Sequence[str], artifact: str) -> None:
        """Log files of a folder, which must not move: they are read on delivery, in this order.

        Args:
            artifact: folder of the run's artifacts to put them in.
        """
        self.put(Files(storage.absolute(folder), tuple(names), artifact))

    def register(self, artifact: str, version: str, description: str, tags: Mapping[str, str]) -> str:
        """Register the bundle logged as `artifact` as the newest version of the base model; return `models:/…`.

        Args:
            version: sha256 of the bundle's manifest.
            description: Markdown; truncated to MLflow's limit.
        """
        self.put(Registration(artifact, version, description, dict(tags), _now_ms()))
        return f"models:/{REGISTERED_MODEL}@{ALIAS}"

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] | None) -> str:
        """Send the remaining records and stop; return a one-line note if some could not be delivered, else "".

        Args:
            status: the run's final status; None: leave it unchanged.
        """
        if status is not None:
            self.put(Status(status, _now_ms()))
        left = self._sender.close()
        if left:
            reason = without_password(self._sender.outage or "it takes its time")
            return (
                f"{left} records for MLflow at {without_password(self.target.uri)} are kept in "
                f"{self._sender.pending.url}; the same command sends them ({reason})"
            )
        if self._sender.num_refused:
            return f"MLflow refused {self._sender.num_refused} records: see {self._sender.pending.url}/refused"
        return ""


def start_run(
    target: Target,
    pending: str,
    *,
    config: TrainConfig,
    dataset: str,
    dataset_digest: str,
    facts: Mapping[str, str] | None = None,
) -> Tracker:
    """Start a run, or continue the run of an earlier start; MLflow may be unreachable.

    Args:
        pending: path or URL of the folder that holds records until MLflow has accepted them.
        dataset: URL or description of the training data.
        facts: further tags, such as the command line and the version of the code.

    Raises:
        ValueError: `target.uri` is no address of an MLflow server or database.
    """
    _check_address(target.uri)
    tracker = Tracker(target, pending)
    tracker.put(Status("RUNNING", _now_ms()))
    plain = asdict(config)
    tracker.put(Params(flattened(plain)))
    tracker.put(Text("config.json", json.dumps(plain, indent=1)))
    facts = {name: without_password(value) for name, value in (facts or {}).items()}
    tracker.put(Tags({"dataset_digest": dataset_digest, **facts}))
    started = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    tracker.put(Text(f"starts/{started}.json", json.dumps({**facts, "config": plain}, indent=1)))
    tracker.put(Lineage(dataset, dataset_digest))
    tracker.wait_for_contact()
    return tracker


def _check_address(uri: str) -> None:
    if uri.partition(":")[0].partition("+")[0] not in _SERVERS:
        raise ValueError(
            f"MLflow keeps runs on a server or in a database (http://…, sqlite:///…, postgresql://…), not in {uri!r}"
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested mappings as strings, keyed by dotted path."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
