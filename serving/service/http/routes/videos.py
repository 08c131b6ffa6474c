"""Videos of an avatar: with an uploaded driver, a stored one, or key frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from serving.bodies import JobView, VideoBody
from serving.render_options import render_options
from serving.service import errors
from serving.service.builtin_drivers import builtin_driver
from serving.service.http import uploads
from serving.service.http.access import Caller
from serving.service.http.forms import form_files, form_schema, form_text, read_form, save
from serving.service.http.routes.common import (
    IdempotencyKey,
    ServiceOf,
    Writer,
    new_router,
    require_capacity,
    reserved_job,
    submit,
)
from serving.service.http.routes.drivers import find_driver
from serving.service.http.service import Service
from serving.service.state.requests import VideoOptions, VideoRequest

router = new_router()
_TEXTS = ("driver_id", "options", "webhook")
_MAX_JSON = 1024 * 1024
_BODY: dict[str, Any] = form_schema(["driver"], _TEXTS, [])
_BODY["requestBody"]["content"]["application/json"] = {"schema": {"$ref": "#/components/schemas/VideoBody"}}
_OPTIONS: TypeAdapter[VideoOptions] = TypeAdapter(VideoOptions)


@router.post("/v1/avatars/{avatar_id}/videos", status_code=202, openapi_extra=_BODY)
async def create_video(
    avatar_id: str,
    request: Request,
    response: Response,
    service: ServiceOf,
    caller: Writer,
    key: IdempotencyKey = None,
) -> JobView:
    """Render an avatar. Send multipart/form-data with a file `driver` or a `driver_id`, and `options` as JSON; or send
    JSON with `driver_id` or `key_frames`."""
    await service.reading(_require_ready, service, avatar_id, caller)
    await service.reading(require_capacity, service, caller, key)
    if request.headers.get("content-type", "").lower().startswith("application/json"):
        body = _parsed(await request.body())
        return await service.storing(_take_json, service, avatar_id, body, caller, key, response)
    async with read_form(request, service.limits) as form:

        def take() -> JobView:
            files = form_files(form, ("driver",), _TEXTS)
            options = _options(form_text(form, "options"))
            driver_id, webhook = form_text(form, "driver_id"), form_text(form, "webhook")
            if len(files) + (driver_id is not None) != 1:
                raise errors.BadInput("send either one file 'driver' or a 'driver_id'")
            if driver_id is not None:
                return _take_stored(
                    service, avatar_id, driver_id, options, caller, key, form_text(form, "webhook"), response
                )
            with reserved_job(service, "video", caller, avatar_id) as (job_id, folder):
                path = folder / f"driver{uploads.driver_suffix(files[0].filename)}"
                digest = save(files[0].file, path, max_bytes=service.limits.max_body, what="driver")
                uploads.check_driver(path, "driver")
                made = VideoRequest(path.name, None, options)
                content = [digest, avatar_id, repr(options)]
                return submit(service, job_id, made, [path], content, caller, key, webhook, response)

        return await service.storing(take)


def _take_json(
    service: Service, avatar_id: str, body: VideoBody, caller: Caller, key: str | None, response: Response
) -> JobView:
    if (body.driver_id is None) == (body.key_frames is None):
        raise errors.BadInput("give either driver_id or key_frames")
    _check_options(body.options)
    if body.driver_id is not None:
        return _take_stored(service, avatar_id, body.driver_id, body.options, caller, key, body.webhook, response)
    assert body.key_frames is not None
    with reserved_job(service, "video", caller, avatar_id) as (job_id, folder):
        path = folder / "driver.json"
        path.write_text(json.dumps(body.key_frames.model_dump()), encoding="utf-8")
        uploads.check_driver(path, "key_frames")
        content = [path.read_text(encoding="utf-8"), avatar_id, repr(body.options)]
        made = VideoRequest(path.name, None, body.options)
        return submit(service, job_id, made, [path], content, caller, key, body.webhook, response)


def _take_stored(
    service: Service,
    avatar_id: str,
    driver_id: str,
    options: VideoOptions,
    caller: Caller,
    key: str | None,
    webhook: str | None,
    response: Response,
) -> JobView:
    if (builtin := builtin_driver(driver_id)) is not None:
        driver = VideoRequest(Path(builtin.name).name, driver_id, options)
    else:
        driver = VideoRequest(find_driver(service, driver_id, caller).file, driver_id, options)
    with reserved_job(service, "video", caller, avatar_id) as (job_id, _folder):
        content = [driver_id, avatar_id, repr(options)]
        return submit(service, job_id, driver, [], content, caller, key, webhook, response)


def _require_ready(service: Service, avatar_id: str, caller: Caller) -> None:
    job = service.avatar_job(avatar_id, caller)
    if job.state != "done":
        raise errors.Conflict(f"the avatar is not ready: its job is {job.state}")


def _parsed(body: bytes) -> VideoBody:
    if len(body) > _MAX_JSON:
        raise errors.TooLarge(f"a body of JSON has at most {_MAX_JSON} bytes")
    try:
        return VideoBody.model_validate_json(body)
    except ValidationError as error:
        raise _bad_input(error, "body") from error


def _options(text: str | None) -> VideoOptions:
    try:
        options = VideoOptions() if text is None else _OPTIONS.validate_json(text)
    except ValidationError as error:
        raise _bad_input(error, "options") from error
    _check_options(options)
    return options


def _check_options(options: VideoOptions) -> None:
    """Raise BadInput for a value out of range, in the words of the command line."""
    try:
        render_options(options)
    except ValueError as error:
        raise errors.BadInput(f"options: {error}") from error


def _bad_input(error: ValidationError, what: str) -> errors.BadInput:
    first = error.errors(include_url=False)[0]
    where = ".".join([what, *(str(part) for part in first["loc"])])
    return errors.BadInput(f"{where[:200]}: {first['msg']}"[:300])
