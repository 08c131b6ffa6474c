"""Jobs: state, list, events, result, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serving.bodies import JobPage, JobView, PublicState
from serving.service import errors
from serving.service.http.access import Caller
from serving.service.http.files import send_file
from serving.service.http.routes.common import Cursor, Limit, Reader, ServiceOf, Writer, new_router, seen
from serving.service.http.service import Service
from serving.service.state.job_queue import ENDED
from serving.service.state.requests import JobKind
from serving.service.store import PREVIEW, SIDE_BY_SIDE, VIDEO
from serving.service.views import avatar_view, cursor_of, job_view, read_cursor

router = new_router()
_EVENT_POLL_S = 0.5
_KEEP_ALIVE_S = 15.0
_RESULTS = {"video": VIDEO, "side-by-side": SIDE_BY_SIDE}


@router.get("/v1/jobs")
async def list_jobs(
    service: ServiceOf,
    caller: Reader,
    state: PublicState | None = None,
    kind: JobKind | None = None,
    avatar_id: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> JobPage:
    """List jobs, the newest first; filter by state, kind and avatar."""
    try:
        before = read_cursor(cursor)
    except ValueError:
        raise errors.BadInput("cursor: not the `next` of a page") from None
    jobs = await service.reading(
        service.jobs.list,
        owner=None if caller.sees_all else caller.owner,
        kind=kind,
        state=state,
        avatar_id=avatar_id,
        before=before,
        limit=limit,
    )
    return JobPage(jobs=[job_view(job) for job in jobs], next=cursor_of(jobs[-1]) if len(jobs) == limit else None)


@router.get("/v1/jobs/{job_id}")
async def get_job(job_id: str, service: ServiceOf, caller: Reader) -> JobView:
    """Return a job's state and progress."""
    return await service.reading(_view, service, job_id, caller)


def _view(service: Service, job_id: str, caller: Caller) -> JobView:
    return seen(service, service.job(job_id, caller))


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse)
async def get_events(job_id: str, service: ServiceOf, caller: Reader) -> StreamingResponse:
    """Follow a job as server-sent events: an event `job` with the job's state whenever it changes, until it ends."""
    first = await service.reading(_view, service, job_id, caller)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, job_id, caller, first), 200, headers, "text/event-stream")


async def _events(service: Service, job_id: str, caller: Caller, view: JobView) -> AsyncIterator[str]:
    sent, quiet_s = "", 0.0
    while True:
        text = view.model_dump_json()
        if text != sent:
            yield f"event: job\ndata: {text}\n\n"
            sent, quiet_s = text, 0.0
        elif quiet_s >= _KEEP_ALIVE_S:
            yield ": still there\n\n"
            quiet_s = 0.0
        if view.state in ENDED:
            return
        await asyncio.sleep(_EVENT_POLL_S)
        quiet_s += _EVENT_POLL_S
        try:
            view = await service.reading(_view, service, job_id, caller)
        except errors.NotFound:
            yield "event: deleted\ndata: {}\n\n"
            return


@router.get("/v1/jobs/{job_id}/result", response_class=Response)
async def get_result(
    job_id: str,
    request: Request,
    service: ServiceOf,
    caller: Reader,
    file: Annotated[Literal["video", "side-by-side"], Query(description="Which video of a video job")] = "video",
) -> Response:
    """Return the video of a video job (mp4; ranges are supported), or the description of an avatar."""
    job = await service.reading(service.job, job_id, caller)
    if job.state != "done":
        why = f": {job.error}" if job.error else ""
        raise errors.Conflict(f"there is no result, the job is {job.state}{why}")
    if job.request.kind == "avatar":
        return JSONResponse(avatar_view(job).model_dump(mode="json"))
    return await send_file(service, request, service.store.result(job.id, _RESULTS[file]), "video/mp4", f"{job.id}.mp4")


@router.get("/v1/jobs/{job_id}/preview", response_class=Response)
async def get_preview(job_id: str, request: Request, service: ServiceOf, caller: Reader) -> Response:
    """Return a frame of a video that is being rendered (JPEG)."""
    job = await service.reading(service.job, job_id, caller)
    response = await send_file(service, request, service.store.result(job.id, PREVIEW), "image/jpeg", f"{job.id}.jpg")
    response.headers["Cache-Control"] = "no-store"
    return response


@router.post("/v1/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, service: ServiceOf, caller: Writer) -> JobView:
    """Cancel a waiting or running job."""

    def cancel() -> JobView:
        before = service.job(job_id, caller)
        job = service.jobs.cancel(before.id)
        if before.state == "queued" and service.jobs.rules.keep_uploads_s is None:  # of a running one, the worker does
            service.store.remove_uploads(job.id)
            service.jobs.uploads_removed(job.id)
        service.audit.note(caller.owner, "job.cancel", job.id)
        return job_view(job)

    return await service.reading(cancel)


@router.post("/v1/jobs/{job_id}/retry")
async def retry_job(job_id: str, service: ServiceOf, caller: Writer) -> JobView:
    """Queue a failed or cancelled job again, if its uploads are still kept or its driver is stored."""

    def retry() -> JobView:
        job = service.jobs.retry(service.job(job_id, caller).id)
        service.audit.note(caller.owner, "job.retry", job.id)
        return seen(service, job)

    return await service.reading(retry)


@router.delete("/v1/jobs/{job_id}", status_code=204)
async def delete_job(job_id: str, service: ServiceOf, caller: Writer) -> None:
    """Delete a job and its result; an active one is cancelled first. That of an avatar goes with the avatar."""

    def delete() -> None:
        job = service.job(job_id, caller)
        if job.request.kind == "avatar" and job.state == "done":
            raise errors.Conflict("this job made an avatar: delete the avatar")
        service.delete_job(job)
        service.audit.note(caller.owner, "job.delete", job.id)

    await service.storing(delete)
