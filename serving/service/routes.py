"""The HTTP interface, in FastAPI: routes validate requests, queue jobs and return their state."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.service import errors, uploads
from serving.service.config import ServiceConfig, UploadLimits, read_api_key
from serving.service.job_queue import AvatarRequest, Job, JobQueue, VideoRequest
from serving.service.schemas import AvatarView, ErrorBody, ErrorView, HealthView, JobView, avatar_view, job_view
from serving.service.store import Store, checked_id, new_id

log = logging.getLogger(__name__)

_IDEMPOTENCY_KEY = Header(alias="Idempotency-Key", min_length=1, max_length=200)
_PICTURES = ("pictures", "pictures[]")
_FILES = {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class Service:
    """Objects that the routes use."""

    jobs: JobQueue
    store: Store
    limits: UploadLimits
    api_key: str | None
    allowed_hosts: tuple[str, ...] = ("*",)


class Ingress:
    """The Serve replica that answers HTTP requests: creates the ASGI app from the shared configuration.

    Takes the workers' handles only so that Serve starts them; they take their jobs from the queue.
    """

    def __init__(self, config: ServiceConfig, *_workers: object) -> None:
        store = Store.create(config.data_dir, config.avatars)
        jobs = JobQueue(store.jobs_table, config.queue)
        store.remove_stale_uploads(jobs.active_ids())
        key = read_api_key(config)
        self._service = Service(jobs, store, config.limits, key, config.allowed_hosts)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._service)


def create_api(service: Service) -> FastAPI:
    """Create the application. It depends on `service` only, so tests run it without Ray."""
    api = FastAPI(title="Sfumato", summary="Brings portraits to life.", version="1", docs_url=None, redoc_url=None)
    api.include_router(Routes(service).router())
    for kind in (errors.ServiceError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        api.add_exception_handler(kind, _answer)
    api.add_middleware(uploads.LimitBody, limits=service.limits)
    return api


class Routes:
    """One method per route. Everything but HTTP is in the job queue and the store."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs = service.jobs
        self._store = service.store
        self._limits = service.limits

    def router(self) -> APIRouter:
        guarded = [Depends(self._check_origin), Depends(self._check_key)]
        known_errors: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorView}}
        router = APIRouter(responses=known_errors)
        avatar: dict[str, Any] = {"status_code": 202, "openapi_extra": _form_schema(avatar=True)}
        video: dict[str, Any] = {"status_code": 202, "openapi_extra": _form_schema(avatar=False)}
        routes: tuple[tuple[str, str, Callable[..., Any], dict[str, Any]], ...] = (
            ("POST", "/v1/avatars", self.create_avatar, avatar),
            ("POST", "/v1/avatars/{avatar_id}/videos", self.create_video, video),
            ("GET", "/v1/avatars/{avatar_id}", self.get_avatar, {}),
            ("GET", "/v1/jobs/{job_id}", self.get_job, {}),
            ("GET", "/v1/jobs/{job_id}/result", self.get_result, {"response_model": None}),
            ("DELETE", "/v1/jobs/{job_id}", self.cancel_job, {}),
        )
        for method, path, route, more in routes:
            router.add_api_route(path, route, methods=[method], dependencies=guarded, **more)
        router.add_api_route("/healthz", self.health, methods=["GET"])
        return router

    async def create_avatar(
        self, request: Request, response: Response, key: Annotated[str | None, _IDEMPOTENCY_KEY] = None
    ) -> JobView:
        """Upload pictures of one person; the job makes an avatar."""
        await run_in_threadpool(self._require_capacity, key)
        async with _form(request, self._limits) as form:
            return await run_in_threadpool(self._take_avatar, form, response, key)

    async def create_video(
        self,
        avatar_id: str,
        request: Request,
        response: Response,
        key: Annotated[str | None, _IDEMPOTENCY_KEY] = None,
    ) -> JobView:
        """Upload a driver; the job renders the avatar with its motion."""
        await run_in_threadpool(self._require_ready, avatar_id)
        await run_in_threadpool(self._require_capacity, key)
        async with _form(request, self._limits) as form:
            return await run_in_threadpool(self._take_video, avatar_id, form, response, key)

    def get_avatar(self, avatar_id: str) -> AvatarView:
        return avatar_view(self._jobs.avatar_job(checked_id(avatar_id, "avatar")))

    def get_job(self, job_id: str) -> JobView:
        return job_view(self._jobs.get(checked_id(job_id, "job")))

    def get_result(self, job_id: str) -> Response:
        """Return the video of a video job (mp4), or the description of an avatar."""
        job = self._jobs.get(checked_id(job_id, "job"))
        if job.state != "done":
            why = f": {job.error}" if job.error else ""
            raise errors.Conflict(f"there is no result, the job is {job.state}{why}")
        if job.request.kind == "avatar":
            return JSONResponse(avatar_view(job).model_dump(mode="json"))
        path = self._store.result(job.id)
        if not path.is_file():
            raise errors.NotFound("the result is no longer kept")
        return FileResponse(path, media_type="video/mp4", filename=f"{job.id}.mp4")

    def cancel_job(self, job_id: str) -> JobView:
        """Cancel a job and delete its uploads."""
        before = self._jobs.get(checked_id(job_id, "job"))
        job = self._jobs.cancel(job_id)
        if before.state == "queued":  # the worker removes those of a running job
            self._store.remove_uploads(job_id)
        return job_view(job)

    def health(self) -> HealthView:
        self._jobs.active_ids()
        return HealthView()

    def _take_avatar(self, form: FormData, response: Response, key: str | None) -> JobView:
        files = _files(form, _PICTURES, text_fields=("consent",))
        if len(files) > self._limits.max_pictures:
            raise errors.TooLarge(f"{len(files)} pictures: at most {self._limits.max_pictures} make an avatar")
        consent = form.get("consent")
        if not (consent is None or isinstance(consent, str)):
            raise errors.BadInput("consent is a text, not a file")
        with self._store.new_upload() as (job_id, folder):
            names, digests = [], []
            for number, file in enumerate(files, 1):
                what = f"picture {number}"
                target = folder / f"picture-{number:02}{uploads.suffix(file.filename)}"
                digests.append(uploads.save(file.file, target, max_bytes=self._limits.max_picture, what=what))
                uploads.check_picture(target, what)
                names.append(target.name)
            request = AvatarRequest(tuple(names), (consent or "").strip() or None)
            return self._submit(job_id, new_id(), request, [*digests, request.consent or ""], response, key)

    def _take_video(self, avatar_id: str, form: FormData, response: Response, key: str | None) -> JobView:
        files = _files(form, ("driver",))
        if len(files) != 1:
            raise errors.BadInput(f"{len(files)} drivers: a video has one")
        with self._store.new_upload() as (job_id, folder):
            target = folder / "driver"
            digest = uploads.save(files[0].file, target, max_bytes=self._limits.max_body, what="driver")
            uploads.check_video(target, "driver")
            return self._submit(job_id, avatar_id, VideoRequest(target.name), [digest, avatar_id], response, key)

    def _submit(
        self,
        job_id: str,
        avatar_id: str,
        request: AvatarRequest | VideoRequest,
        content: Sequence[str],
        response: Response,
        key: str | None,
    ) -> JobView:
        """Queue the job, or return the one that has this idempotency key."""
        fingerprint = hashlib.sha256("\n".join([request.kind, *content]).encode()).hexdigest()
        job, created = self._jobs.submit(job_id, avatar_id, request, idempotency_key=key, fingerprint=fingerprint)
        if not created:
            self._store.remove_uploads(job_id)
            response.headers["Idempotent-Replayed"] = "true"
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return job_view(job)

    def _require_capacity(self, key: str | None) -> None:
        if key is None or self._jobs.by_key(key) is None:
            self._jobs.require_capacity()

    def _require_ready(self, avatar_id: str) -> Job:
        job = self._jobs.avatar_job(checked_id(avatar_id, "avatar"))
        if job.state != "done":
            raise errors.Conflict(f"the avatar is not ready: its job is {job.state}")
        return job

    async def _check_key(self, authorization: Annotated[str | None, Header()] = None) -> None:
        expected = self._service.api_key
        if expected is None:
            return
        scheme, _, given = (authorization or "").partition(" ")
        digests = [hashlib.sha256(key.strip().encode()).digest() for key in (given, expected)]
        if scheme.lower() != "bearer" or not hmac.compare_digest(*digests):
            raise errors.Unauthorized("missing or wrong API key: send the header Authorization: Bearer KEY")

    async def _check_origin(
        self, host: Annotated[str, Header()] = "", origin: Annotated[str | None, Header()] = None
    ) -> None:
        """Refuse requests that a foreign web page makes a browser send (CSRF, DNS rebinding)."""
        allowed = self._service.allowed_hosts
        if "*" in allowed:
            return
        if urlsplit(f"//{host}").hostname not in allowed:
            raise errors.Forbidden("this host name is not served here")
        if origin is not None and urlsplit(origin).hostname not in allowed:
            raise errors.Forbidden("requests from web pages of other origins are refused")


def _form_schema(*, avatar: bool) -> dict[str, Any]:
    """Return the OpenAPI body of an upload, which FastAPI cannot infer: the routes read the form themselves."""
    fields: dict[str, Any] = (
        {"pictures": {"type": "array", "items": _FILES}, "consent": {"type": "string"}}
        if avatar
        else {"driver": _FILES}
    )
    required = ["pictures"] if avatar else ["driver"]
    schema = {"type": "object", "properties": fields, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def _form(request: Request, limits: UploadLimits) -> AsyncIterator[FormData]:
    """Yield the request's multipart form and close its files afterwards.

    Raises:
        UnsupportedMedia, TooLarge, BadRequest: the content type, the size or the form is invalid.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise errors.UnsupportedMedia("send the files as multipart/form-data")
    declared = request.headers.get("content-length", "")
    uploads.check_body_size(int(declared) if declared.isdecimal() else 0, limits)
    try:
        content = await request.form(
            max_files=limits.max_pictures + 1, max_fields=limits.max_fields, max_part_size=limits.max_field
        )
    except HTTPException as error:  # Starlette distinguishes its limits from a malformed body only by the message
        too_much = error.detail.startswith(("Too many", "Part exceeded"))
        raise (errors.TooLarge if too_much else errors.BadRequest)(error.detail) from error
    try:
        yield content
    finally:
        await content.close()


def _files(form: FormData, names: Sequence[str], text_fields: Sequence[str] = ()) -> list[UploadFile]:
    """Return the files of the fields `names`. Raises BadInput for missing files, text instead, and unknown fields."""
    if unknown := sorted(set(form.keys()) - {*names, *text_fields}):
        raise errors.BadInput(f"unknown field {unknown[0][:40]!r}; known: {', '.join([names[0], *text_fields])}")
    found = [value for name in names for value in form.getlist(name)]
    files = [value for value in found if isinstance(value, UploadFile)]
    if not found or len(files) != len(found):
        raise errors.BadInput(f"the field {names[0]!r} must hold at least one file")
    return files


async def _answer(_request: Request, error: Exception) -> JSONResponse:
    """Answer an error as JSON with its status."""
    headers: dict[str, str] = {}
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        status, code = errors.BadInput.status, errors.BadInput.code
        message = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    elif isinstance(error, HTTPException):
        status, code, message = error.status_code, errors.code_for_status(error.status_code), error.detail
        headers |= error.headers or {}
    else:
        shown = errors.BadRequest("the upload ended early") if isinstance(error, ClientDisconnect) else error
        known = errors.as_service_error(shown)
        status, code, message = known.status, known.code, known.message
        if known.retry_after_s is not None:
            headers["Retry-After"] = str(known.retry_after_s)
        if status == errors.Unauthorized.status:
            headers["WWW-Authenticate"] = "Bearer"
    body = ErrorView(error=ErrorBody(code=code, message=message))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)
