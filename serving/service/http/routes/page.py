"""The page for people, and the settings that it reads first."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache

from fastapi.responses import FileResponse

from serving.bodies import SettingsView, SliderView, VideoOptions
from serving.service.http.routes.common import ServiceOf, new_router
from serving.service.page import FOLDER
from training.animation.motion.sliders import SLIDER_RANGES, Sliders

router = new_router()


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(FOLDER / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/v1/settings")
async def get_settings(service: ServiceOf) -> SettingsView:
    """Return what a client needs to know before it asks for anything; no API key is needed."""
    return SettingsView(
        needs_key=await service.reading(service.access.needs_key),
        require_consent=service.require_consent,
        max_pictures=service.limits.max_pictures,
        max_picture_bytes=service.limits.max_picture,
        max_body_bytes=service.limits.max_body,
        draws_stills=service.draw_still is not None,
        drivers_url="/v1/drivers",
        parts=VideoOptions.parts.split(","),
        sliders=[
            SliderView(name=name, lowest=lowest, highest=highest, meaning=_meanings()[name])
            for name, (lowest, highest) in SLIDER_RANGES.items()
        ],
    )


@cache
def _meanings() -> Mapping[str, str]:
    """Return the text below each field of Sliders."""
    (described,) = ast.parse(inspect.getsource(Sliders)).body
    assert isinstance(described, ast.ClassDef)
    meanings: dict[str, str] = {}
    for field, text in zip(described.body, described.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            meanings[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return meanings
