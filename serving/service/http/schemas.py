"""Request and response bodies of the HTTP interface, as pydantic models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.service.builtin_drivers import BuiltinDriver
from serving.service.state.drivers import StoredDriver
from serving.service.state.job_queue import Job
from serving.service.state.requests import JobKind, VideoOptions

PublicState = Literal["queued", "running", "done", "failed", "cancelled"]


class ProgressView(BaseModel):
    done: int
    total: int


class JobView(BaseModel):
    id: str
    kind: JobKind
    state: PublicState
    avatar_id: str
    attempts: int = Field(description="how many workers have started it")
    position: int | None = Field(None, description="place in the queue while it waits; 1 is next")
    stage: str = Field("", description="what is done now: pictures, fine-tuning, avatar, rendering, saving")
    progress: ProgressView | None = Field(description="steps of an avatar, frames of a video")
    error: str | None = Field(description="why it failed")
    facts: dict[str, str | int | float | bool | None] = Field(description="what came out: frames, fps, steps ...")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="when the job and its result are removed")
    url: str
    result_url: str | None = Field(description="where the result is, once it is")


class JobPage(BaseModel):
    jobs: list[JobView]
    next: str | None = Field(description="value of `cursor` for the next page; null on the last")


class AvatarView(BaseModel):
    id: str
    state: Literal["queued", "running", "ready", "failed", "cancelled"]
    job_id: str
    consent: str | None
    num_pictures: int
    created_at: datetime
    base_model: str | None = None
    num_steps: int | None = None
    portrait_url: str | None = Field(None, description="the picture whose body and background are shown, once ready")


class AvatarPage(BaseModel):
    avatars: list[AvatarView]
    next: str | None = Field(description="value of `cursor` for the next page; null on the last")


class DriverView(BaseModel):
    id: str
    name: str
    builtin: bool
    num_bytes: int | None
    created_at: datetime | None
    content_url: str


class DriverList(BaseModel):
    drivers: list[DriverView]


class KeyFrame(BaseModel):
    """The sliders at a time; other entries are sliders of `sfumato pose`."""

    model_config = ConfigDict(extra="allow")

    time: float = Field(description="seconds")
    easing: str = "linear"


class KeyFrames(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fps: float = 25.0
    keys: list[KeyFrame]


class VideoBody(BaseModel):
    """A video of a stored or built-in driver, or of key frames."""

    model_config = ConfigDict(extra="forbid")

    driver_id: str | None = Field(None, max_length=64, description="a stored or built-in driver")
    key_frames: KeyFrames | None = Field(None, description="sliders over time, instead of a driver")
    options: VideoOptions = Field(default_factory=VideoOptions)


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def job_view(job: Job, position: int | None = None) -> JobView:
    """Return the public view of a job, without server paths and workers."""
    assert job.state != "receiving"
    url = f"/v1/jobs/{job.id}"
    return JobView(
        id=job.id,
        kind=job.request.kind,
        state=job.state,
        avatar_id=job.avatar_id,
        attempts=job.attempts,
        position=position,
        stage=job.stage if job.state == "running" else "",
        progress=ProgressView(done=job.done, total=job.total) if job.total else None,
        error=job.error,
        facts=dict(job.facts),
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        started_at=_time(job.started_at),
        finished_at=_time(job.finished_at),
        expires_at=_time(job.expires_at),
        url=url,
        result_url=f"{url}/result" if job.state == "done" else None,
    )


def avatar_view(job: Job) -> AvatarView:
    """Return the public view of an avatar, from the job that makes it."""
    request = job.request
    assert request.kind == "avatar"
    assert job.state != "receiving"
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
        portrait_url=f"/v1/avatars/{job.avatar_id}/portrait" if job.state == "done" else None,
    )


def driver_view(driver: StoredDriver | BuiltinDriver) -> DriverView:
    """Return the public view of a driver."""
    more: dict[str, Any] = (
        {"name": driver.title, "builtin": True, "num_bytes": None, "created_at": None}
        if isinstance(driver, BuiltinDriver)
        else {
            "name": driver.name,
            "builtin": False,
            "num_bytes": driver.num_bytes,
            "created_at": datetime.fromtimestamp(driver.created_at, UTC),
        }
    )
    return DriverView(id=driver.id, content_url=f"/v1/drivers/{driver.id}/content", **more)


def cursor_of(job: Job) -> str:
    """Return the cursor of the page that follows this job."""
    return f"{job.created_at!r}-{job.id}"


def read_cursor(text: str | None) -> tuple[float, str] | None:
    """Read a cursor. Raises ValueError when it is none."""
    if text is None:
        return None
    created_at, _, job_id = text.rpartition("-")
    return float(created_at), job_id
