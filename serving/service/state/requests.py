"""What a job is asked to do, as the jobs table keeps it (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from serving.bodies import JobKind, VideoOptions

__all__ = [
    "AvatarRequest",
    "Facts",
    "FailureCause",
    "JobKind",
    "JobState",
    "Request",
    "StillRequest",
    "VideoOptions",
    "VideoRequest",
    "WorkRequest",
]

JobState = Literal["receiving", "queued", "running", "done", "failed", "cancelled"]
FailureCause = Literal["input", "internal", "stalled", "crashed"]
Facts = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class AvatarRequest:
    """Make an avatar of uploaded pictures (file names in the job's upload folder)."""

    pictures: tuple[str, ...]
    consent: str | None = None
    face: str | None = None
    """The face in a picture of several people; None: the largest, and the pictures must show one person."""
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


@dataclass(frozen=True)
class StillRequest:
    """Draw one picture of an avatar. No job: the client waits for the answer."""

    sliders: Mapping[str, float]
    """Values of `training.animation.motion.sliders.Sliders`; those that are missing are 0."""
    max_size: int
    """Maximum length of the picture's longer side, pixels."""
    kind: Literal["still"] = "still"


Request = AvatarRequest | VideoRequest
WorkRequest = AvatarRequest | VideoRequest | StillRequest
"""What a worker's process is asked to do."""
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
_WORK_REQUEST: TypeAdapter[WorkRequest] = TypeAdapter(Annotated[WorkRequest, Field(discriminator="kind")])


def to_json(request: WorkRequest) -> str:
    """Return the request as the table keeps it, and as a worker's process receives it."""
    return _WORK_REQUEST.dump_json(request).decode()


def from_json(text: str) -> Request:
    """Read a job's request back."""
    return _REQUEST.validate_json(text)


def work_from_json(text: str) -> WorkRequest:
    """Read any request back."""
    return _WORK_REQUEST.validate_json(text)
