"""The renderer's options from those of the command line and of the HTTP interface, which have the same names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from training.animation.render import RenderOptions


class GivenOptions(Protocol):
    """What `animate` and a video of the service have in common; see `training.animation.render.RenderOptions`."""

    @property
    def expression(self) -> float: ...
    @property
    def head_motion(self) -> float: ...
    @property
    def gaze(self) -> float: ...
    @property
    def smoothing(self) -> float: ...
    @property
    def parts(self) -> str | None: ...
    @property
    def motion(self) -> Literal["relative", "absolute"]: ...
    @property
    def driver_face(self) -> str: ...
    @property
    def on_missing(self) -> Literal["fill", "hold", "rest", "cut", "fail"]: ...
    @property
    def frame(self) -> Literal["full", "crop"]: ...
    @property
    def max_size(self) -> int: ...
    @property
    def precision(self) -> Literal["float32", "bfloat16"]: ...
    @property
    def fps(self) -> str: ...
    @property
    def sound(self) -> Literal["auto", "driver", "source", "none"]: ...
    @property
    def watermark(self) -> Literal["luma", "none"]: ...
    @property
    def label(self) -> str: ...


def render_options(given: GivenOptions) -> RenderOptions:
    """Return the renderer's options. Raises ValueError for a value out of range."""
    from training.animation.render import RenderOptions
    from training.animation.retarget import PARTS, MotionOptions, parse_parts

    for name in ("expression", "head_motion", "gaze", "smoothing"):
        if not math.isfinite(getattr(given, name)):
            raise ValueError(f"{name} is no number")
    motion = MotionOptions(
        expression=given.expression,
        head_motion=given.head_motion,
        gaze=given.gaze,
        smoothing=given.smoothing,
        parts=PARTS if given.parts is None else parse_parts(given.parts),
        absolute=given.motion == "absolute",
    )
    return RenderOptions(
        motion=motion,
        frame=given.frame,
        max_size=given.max_size,
        precision=given.precision,
        driver_face=given.driver_face,
        on_missing=given.on_missing,
        fps=given.fps,
        sound=given.sound,
        watermark=given.watermark,
        label=given.label,
    )
