"""Single pictures of an avatar, drawn while the client waits."""

from __future__ import annotations

import anyio
from fastapi import Response

from serving.bodies import StillBody
from serving.service import errors
from serving.service.http.routes.common import Reader, ServiceOf, new_router
from serving.service.http.service import MAX_STILLS, Service
from training.animation.motion.sliders import SLIDER_RANGES, Sliders

router = new_router()


@router.post("/v1/avatars/{avatar_id}/stills", response_class=Response)
async def draw_still(avatar_id: str, body: StillBody, service: ServiceOf, caller: Reader) -> Response:
    """Draw an avatar with the sliders' expression and pose; the answer is a JPEG."""
    if service.draw_still is None:
        raise errors.Unavailable("this service draws no single pictures")
    _check(body)
    job = await service.reading(service.avatar_job, avatar_id, caller)
    if job.state != "done":
        raise errors.Conflict(f"the avatar is not ready: its job is {job.state}")
    return Response(
        await _draw(service, avatar_id, body), media_type="image/jpeg", headers={"Cache-Control": "no-store"}
    )


async def _draw(service: Service, avatar_id: str, body: StillBody) -> bytes:
    assert service.draw_still is not None
    request = object()
    try:
        service.stills_waiting.acquire_on_behalf_of_nowait(request)
    except anyio.WouldBlock:
        raise errors.QueueFull(f"{MAX_STILLS} pictures are being drawn already", retry_after_s=1) from None
    try:
        return await service.draw_still(avatar_id, body.sliders, body.max_size)
    finally:
        service.stills_waiting.release_on_behalf_of(request)


def _check(body: StillBody) -> None:
    """Raise BadInput for an unknown slider or a value out of range, in the words of the command line."""
    if unknown := sorted(set(body.sliders) - set(SLIDER_RANGES)):
        raise errors.BadInput(f"sliders: unknown slider {unknown[0][:40]!r}; known: {', '.join(SLIDER_RANGES)}")
    try:
        Sliders(**body.sliders)
    except ValueError as error:
        raise errors.BadInput(f"sliders: {error}") from error
