"""The record of an unfinished run, beside the data set: what a later command needs to continue or finish it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from pipelines import storage
from pipelines.storage.lease import Terms

RECORD = "_job.json"
"""It exists while a run of the data set is unfinished."""
LEASE = Terms("_lease.json", "is being written", "choose another OUT")
"""Held by the process that plans, runs or finishes a data set, or changes it."""


@dataclass(frozen=True)
class DataflowJob:
    """A job on Dataflow."""

    project: str
    region: str
    name: str
    id: str
    """"" for a job that a template's launcher is about to start."""

    @property
    def console(self) -> str:
        """The URL of its page."""
        one = f"/{self.region}/{self.id}" if self.id else ""
        return f"https://console.cloud.google.com/dataflow/jobs{one}?project={self.project}"

    @property
    def cancel_command(self) -> str:
        """The command that ends it."""
        return f"gcloud dataflow jobs cancel {self.id} --region={self.region} --project={self.project}"


@dataclass(frozen=True)
class RunRecord:
    """What an unfinished run was begun with."""

    source: str
    licence: str
    runner: str
    began: float
    """Unix time, seconds."""
    clips_before: int
    """Clips of the shards that were done when it began."""
    job: DataflowJob | None = None


def read_record(root: str) -> RunRecord | None:
    """Return the record of the run of a data set, or None if no run is unfinished.

    Raises:
        ValueError: the file is no record.
    """
    url = storage.join(root, RECORD)
    try:
        return TypeAdapter(RunRecord).validate_json(storage.read_bytes(url))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise ValueError(f"{url} is no record of a run: {error.errors()[0]['msg']}; remove it") from error


def write_record(root: str, record: RunRecord) -> None:
    """Store the record of a run."""
    storage.write_bytes(storage.join(root, RECORD), (json.dumps(asdict(record), indent=1) + "\n").encode())


def remove_record(root: str) -> None:
    """Remove the record: the run is finished."""
    storage.remove(storage.join(root, RECORD))
