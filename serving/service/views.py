"""The service's objects as bodies of the HTTP interface."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from serving.bodies import AvatarView, DriverView, JobView, ProgressView
from serving.service.builtin_drivers import BuiltinDriver
from serving.service.state.drivers import StoredDriver
from serving.service.state.job_queue import Job
from training.animation.motion.formats import is_film


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
        driver_id=job.request.driver_id if job.request.kind == "video" else None,
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
        side_by_side_url=f"{url}/result?file=side-by-side" if job.state == "done" and _is_beside(job) else None,
    )


def _is_beside(job: Job) -> bool:
    """Whether a side-by-side video was made; motion alone has none."""
    request = job.request
    return request.kind == "video" and request.options.side_by_side and is_film(request.driver)


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
        crop=_crop(job),
        portrait_url=f"/v1/avatars/{job.avatar_id}/portrait" if job.state == "done" else None,
    )


def _crop(job: Job) -> list[float] | None:
    sides = [job.facts.get(f"crop_{name}") for name in ("left", "top", "width", "height")]
    return [float(side) for side in sides if side is not None] if None not in sides else None


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
