"""What a job is asked to do, as the jobs table keeps it (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

JobKind = Literal["avatar", "video"]
JobState = Literal["receiving", "queued", "running", "done", "failed", "cancelled"]
FailureCause = Literal["input", "internal", "stalled", "crashed"]
Facts = Mapping[str, str | int | float | bool | None]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class VideoOptions:
    """Options of a video, as `sfumato animate` has them; the defaults are those of `training.animation.render`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    expression: float = 1.0
    head_motion: float = 1.0
    gaze: float = 1.0
    smoothing: float = 0.5
    parts: str = "lips,eyes,pose,brows,gaze"
    motion: Literal["relative", "absolute"] = "relative"
    driver_face: str = "0"
    on_missing: Literal["fill", "hold", "rest", "cut", "fail"] = "fill"
    frame: Literal["full", "crop"] = "full"
    max_size: int = 1280
    fps: str = "keep"
    side_by_side: bool = False


@dataclass(frozen=True)
class AvatarRequest:
    """Make an avatar of uploaded pictures (file names in the job's upload folder)."""

    pictures: tuple[str, ...]
    consent: str | None = None
    face: str | None = None
    """The face in a picture of several people; None: pictures of several people are refused."""
    kind: Literal["avatar"] = "avatar"


@dataclass(frozen=True)
class VideoRequest:
    """Render the job's avatar with a driver: a film or a file of motion."""

    driver: str
    """File name in the job's upload folder, or in the folder of `driver_id`, or of a built-in driver."""
    driver_id: str | None = None
    """A stored driver, or "builtin:NAME"; None: the driver was uploaded with the job."""
    options: VideoOptions = field(default_factory=VideoOptions)
    kind: Literal["video"] = "video"


Request = AvatarRequest | VideoRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])


def to_json(request: Request) -> str:
    """Return the request as the table keeps it."""
    return _REQUEST.dump_json(request).decode()


def from_json(text: str) -> Request:
    """Read a request back."""
    return _REQUEST.validate_json(text)
