"""What the modules of routes share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from pipelines.storage.scratch import ScratchFolder
from serving.bodies import JobView, Problem
from serving.service.errors import BadInput
from serving.service.http.access import Caller, check_origin, reader, writer
from serving.service.http.service import Service
from serving.service.state.job_queue import Job
from serving.service.state.requests import JobKind
from serving.service.state.requests import Request as JobRequest
from serving.service.store import checked_id, new_id
from serving.service.views import job_view
from serving.service.webhooks import check_webhook

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200, description="Maximum number of objects on the page")]
Cursor = Annotated[str | None, Query(max_length=80, description="`next` of the page before")]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf: TypeAlias = Annotated[Service, Depends(_service)]
Reader: TypeAlias = Annotated[Caller, Depends(reader)]
Writer: TypeAlias = Annotated[Caller, Depends(writer)]


class _Router(APIRouter):
    """A router whose GET routes answer HEAD, too."""

    def get(self, path: str, **more: Any) -> Any:
        def register(endpoint: Any) -> Any:
            self.add_api_route(path, endpoint, methods=["GET"], **more)
            self.add_api_route(path, endpoint, methods=["HEAD"], **{**more, "include_in_schema": False})
            return endpoint

        return register


def new_router() -> APIRouter:
    """Return a router whose routes check the Host and Origin headers and answer problem documents."""
    problems: dict[int | str, dict[str, Any]] = {
        "default": {"description": "A problem document", "content": {"application/problem+json": {}}, "model": Problem}
    }
    return _Router(responses=problems, dependencies=[Depends(check_origin)])


def client_id(text: str, what: str) -> str:
    """Return an id that the client chose. Raises BadInput unless it is a UUID or 32 hex digits."""
    plain = text.replace("-", "").lower()
    try:
        return checked_id(plain, what)
    except LookupError:
        raise
    except Exception as error:
        raise BadInput(f"the id of a new {what} is a UUID or 32 hex digits") from error


@contextmanager
def reserved_job(service: Service, kind: JobKind, caller: Caller, avatar_id: str) -> Iterator[tuple[str, Path]]:
    """Yield the id of a reserved job and a local folder for its uploads. When the block raises, the job is gone."""
    job_id = new_id()
    with ScratchFolder() as folder:
        service.jobs.reserve(job_id, avatar_id, kind, caller.owner)
        try:
            yield job_id, Path(folder)
        except BaseException:
            service.store.remove_uploads(job_id)
            service.jobs.delete([job_id])
            raise


def submit(
    service: Service,
    job_id: str,
    request: JobRequest,
    files: Sequence[Path],
    content: Sequence[str],
    caller: Caller,
    key: str | None,
    webhook: str | None,
    response: Response,
) -> JobView:
    """Store the uploads and queue the job, or return the one that has this idempotency key."""
    for file in files:
        service.store.put(file, service.store.upload(job_id, file.name))
    fingerprint = hashlib.sha256("\n".join([request.kind, *content]).encode()).hexdigest()
    job, created = service.jobs.submit(
        job_id,
        request,
        idempotency_key=key,
        fingerprint=fingerprint,
        max_waiting=caller.max_waiting,
        webhook=None if webhook is None else check_webhook(webhook, service.webhook_hosts),
    )
    if created:
        service.audit.note(caller.owner, f"{request.kind}.create", job.id)
    else:
        service.store.remove_uploads(job_id)
        response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return seen(service, job)


def require_capacity(service: Service, caller: Caller, key: str | None) -> None:
    """Raise QueueFull before an upload is read, unless it repeats one."""
    if key is None or service.jobs.by_key(key, caller.owner) is None:
        service.jobs.require_capacity(caller.owner, caller.max_waiting)


def seen(service: Service, job: Job) -> JobView:
    """Return the public view of a job with its place in the queue."""
    return job_view(job, service.jobs.position(job))
