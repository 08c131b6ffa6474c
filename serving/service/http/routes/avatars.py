"""Avatars: made of pictures, listed, deleted with everything that was made of them."""

from __future__ import annotations

import io
from typing import Any

from fastapi import Request, Response

from pipelines import storage
from serving.bodies import AvatarPage, AvatarView, JobView
from serving.service import errors
from serving.service.http import uploads
from serving.service.http.access import Caller
from serving.service.http.forms import form_files, form_schema, form_text, read_form, save
from serving.service.http.routes.common import (
    Cursor,
    IdempotencyKey,
    Limit,
    Reader,
    ServiceOf,
    Writer,
    client_id,
    new_router,
    require_capacity,
    reserved_job,
    submit,
)
from serving.service.http.service import Service
from serving.service.state.requests import AvatarRequest
from serving.service.store import new_id
from serving.service.views import avatar_view, cursor_of, read_cursor

router = new_router()
_PICTURES = ("pictures", "pictures[]")
_TEXTS = ("consent", "face", "webhook")
_UPLOAD: dict[str, Any] = {"status_code": 202, "openapi_extra": form_schema(["pictures"], _TEXTS, ["pictures"])}
_PORTRAIT_PX = 512


@router.post("/v1/avatars", **_UPLOAD)
async def create_avatar(
    request: Request, response: Response, service: ServiceOf, caller: Writer, key: IdempotencyKey = None
) -> JobView:
    """Upload pictures of one person; the job makes an avatar."""
    return await _create(new_id(), request, response, service, caller, key)


@router.put("/v1/avatars/{avatar_id}", **_UPLOAD)
async def put_avatar(
    avatar_id: str, request: Request, response: Response, service: ServiceOf, caller: Writer
) -> JobView:
    """Upload pictures for an avatar whose id the client chooses (a UUID); repeating it makes no second one."""
    avatar_id = client_id(avatar_id, "avatar")
    return await _create(avatar_id, request, response, service, caller, f"avatar:{avatar_id}")


async def _create(
    avatar_id: str, request: Request, response: Response, service: Service, caller: Caller, key: str | None
) -> JobView:
    await service.reading(require_capacity, service, caller, key)
    async with read_form(request, service.limits) as form:

        def take() -> JobView:
            files = form_files(form, _PICTURES, _TEXTS)
            if not files:
                raise errors.BadInput("the field 'pictures' must hold at least one file")
            if len(files) > service.limits.max_pictures:
                raise errors.TooLarge(f"{len(files)} pictures: at most {service.limits.max_pictures} make an avatar")
            consent, face = form_text(form, "consent"), form_text(form, "face")
            if service.require_consent and consent is None:
                raise errors.BadInput("a statement of consent is required: send the field 'consent'")
            _check_face(face)
            with reserved_job(service, "avatar", caller, avatar_id) as (job_id, folder):
                paths, digests = [], []
                for number, file in enumerate(files, 1):
                    what = f"picture {number}"
                    path = folder / f"picture-{number:02}{uploads.picture_suffix(file.filename)}"
                    digests.append(save(file.file, path, max_bytes=service.limits.max_picture, what=what))
                    uploads.check_picture(path, what)
                    paths.append(path)
                made = AvatarRequest(tuple(path.name for path in paths), consent, face)
                content = [*digests, consent or "", face or ""]
                return submit(service, job_id, made, paths, content, caller, key, form_text(form, "webhook"), response)

        return await service.storing(take)


def _check_face(face: str | None) -> None:
    from pipelines.faces.identity.face_choice import parse_face_choice

    try:
        if face is not None:
            parse_face_choice(face)
    except ValueError as error:
        raise errors.BadInput(f"face: {error}") from error


@router.get("/v1/avatars")
async def list_avatars(service: ServiceOf, caller: Reader, cursor: Cursor = None, limit: Limit = 50) -> AvatarPage:
    """List avatars, the newest first."""
    jobs = await service.reading(
        service.jobs.list,
        owner=None if caller.sees_all else caller.owner,
        kind="avatar",
        before=_cursor(cursor),
        limit=limit,
    )
    more = cursor_of(jobs[-1]) if len(jobs) == limit else None
    return AvatarPage(avatars=[avatar_view(job) for job in jobs], next=more)


@router.get("/v1/avatars/{avatar_id}")
async def get_avatar(avatar_id: str, service: ServiceOf, caller: Reader) -> AvatarView:
    """Return an avatar."""
    return avatar_view(await service.reading(service.avatar_job, avatar_id, caller))


@router.get("/v1/avatars/{avatar_id}/portrait", response_class=Response)
async def get_portrait(avatar_id: str, service: ServiceOf, caller: Reader) -> Response:
    """Return the avatar's portrait as JPEG, at most 512 pixels."""

    def read() -> bytes:
        job = service.avatar_job(avatar_id, caller)
        if job.state != "done":
            raise errors.Conflict(f"the avatar is not ready: its job is {job.state}")
        from PIL import Image

        try:
            data = storage.read_bytes(storage.join(service.store.avatar(avatar_id), "portrait-0.png"))
        except FileNotFoundError:
            raise errors.NotFound("the portrait is no longer kept") from None
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            picture.thumbnail((_PORTRAIT_PX, _PORTRAIT_PX))
            sink = io.BytesIO()
            picture.convert("RGB").save(sink, "JPEG", quality=88)
        return sink.getvalue()

    return Response(
        await service.storing(read), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


@router.delete("/v1/avatars/{avatar_id}", status_code=204)
async def delete_avatar(avatar_id: str, service: ServiceOf, caller: Writer) -> None:
    """Delete an avatar and all that was made of it: uploads, weights, pictures, consent, videos and jobs."""

    def delete() -> None:
        job = service.avatar_job(avatar_id, caller)
        service.delete_avatar(job.avatar_id)
        service.audit.note(caller.owner, "avatar.delete", job.avatar_id)

    await service.storing(delete)


def _cursor(text: str | None) -> tuple[float, str] | None:
    try:
        return read_cursor(text)
    except ValueError:
        raise errors.BadInput("cursor: not the `next` of a page") from None
