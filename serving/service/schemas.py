"""Response bodies of the HTTP interface, as pydantic models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from serving.service.job_queue import Job, JobKind, JobState


class ErrorBody(BaseModel):
    code: str = Field(description="stable word for programs, e.g. queue_full")
    message: str = Field(description="one line for people")


class ErrorView(BaseModel):
    error: ErrorBody


class ProgressView(BaseModel):
    done: int
    total: int


class JobView(BaseModel):
    id: str
    kind: JobKind
    state: JobState
    avatar_id: str
    attempts: int = Field(description="how many workers have started it")
    progress: ProgressView | None = Field(description="steps of an avatar, frames of a video")
    error: str | None = Field(description="why it failed")
    facts: dict[str, str | int | float | bool | None] = Field(description="what came out: frames, fps, steps ...")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    url: str
    result_url: str | None = Field(description="where the result is, once it is")


class AvatarView(BaseModel):
    id: str
    state: Literal["queued", "running", "ready", "failed", "cancelled"]
    job_id: str
    consent: str | None
    num_pictures: int
    created_at: datetime
    base_model: str | None = None
    num_steps: int | None = None


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def job_view(job: Job) -> JobView:
    """Return the public view of a job, without server paths and workers."""
    url = f"/v1/jobs/{job.id}"
    return JobView(
        id=job.id,
        kind=job.request.kind,
        state=job.state,
        avatar_id=job.avatar_id,
        attempts=job.attempts,
        progress=ProgressView(done=job.done, total=job.total) if job.total else None,
        error=job.error,
        facts=dict(job.facts),
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        started_at=_time(job.started_at),
        finished_at=_time(job.finished_at),
        url=url,
        result_url=f"{url}/result" if job.state == "done" else None,
    )


def avatar_view(job: Job) -> AvatarView:
    """Return the public view of an avatar, from the job that makes it."""
    request = job.request
    assert request.kind == "avatar"
    base_model, num_steps = job.facts.get("base_model"), job.facts.get("num_steps")
    return AvatarView(
        id=job.avatar_id,
        state="ready" if job.state == "done" else job.state,
        job_id=job.id,
        consent=request.consent,
        num_pictures=len(request.pictures),
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        base_model=None if base_model is None else str(base_model),
        num_steps=None if num_steps is None else int(num_steps),
    )
