"""A job as the table has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from serving.service.state.requests import Facts, JobState, Request, from_json

ACTIVE: tuple[JobState, ...] = ("queued", "running")
ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """One row. Times are seconds since the epoch; `attempts` is the number of claims."""

    id: str
    state: JobState
    owner: str
    """Id of the API key that it belongs to; "" without keys."""
    avatar_id: str
    request: Request
    attempts: int
    crashes: int
    """Number of worker processes that died or hung while running it."""
    stage: str
    done: int
    total: int
    facts: Facts
    error: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    fingerprint: str | None
    has_uploads: bool


@dataclass(frozen=True)
class QueueCounts:
    """The queue of one kind of jobs, for scaling and metrics."""

    queued: int
    running: int
    oldest_s: float
    """Age of the job that has waited longest."""


def job_of(row: Any) -> Job:
    """Return the job of a row of the table."""
    values = row._mapping
    return Job(
        id=values["id"],
        state=values["state"],
        owner=values["owner"],
        avatar_id=values["avatar_id"],
        request=from_json(values["request"]),
        attempts=values["attempts"],
        crashes=values["crashes"],
        stage=values["stage"],
        done=values["done"],
        total=values["total"],
        facts=json.loads(values["facts"]),
        error=values["error"],
        created_at=values["created_at"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        expires_at=values["expires_at"],
        fingerprint=values["fingerprint"],
        has_uploads=bool(values["has_uploads"]),
    )
