"""Request and response bodies of the HTTP service, which the service and its client share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

JobKind = Literal["avatar", "video"]
PublicState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class VideoOptions:
    """Options of a video, as `sfumato animate` has them; the defaults are those of `training.animation.render`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

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
    sound: Literal["auto", "driver", "none"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    side_by_side: bool = False
    watermark: Literal["luma", "none"] = "luma"
    label: str = ""
    """A line in the lower left corner, such as "AI-generated"; empty: none."""


class ProgressView(BaseModel):
    done: int
    total: int


class JobView(BaseModel):
    id: str
    kind: JobKind
    state: PublicState
    avatar_id: str
    driver_id: str | None = Field(None, description="the stored or built-in driver of a video")
    attempts: int = Field(description="how many workers have started it")
    position: int | None = Field(None, description="place in the queue while it waits; 1 is next")
    stage: str = Field("", description="what is done now: pictures, fine-tuning, avatar, rendering, saving")
    progress: ProgressView | None = Field(description="steps of an avatar, frames of a video")
    error: str | None = Field(description="why it failed")
    facts: dict[str, str | int | float | bool | None] = Field(description="what came out: frames, fps, steps ...")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="when the job and its result are removed")
    url: str
    result_url: str | None = Field(description="where the result is, once it is")
    side_by_side_url: str | None = Field(None, description="where the side-by-side video is, if one was asked for")


class JobPage(BaseModel):
    jobs: list[JobView]
    next: str | None = Field(description="value of `cursor` for the next page; null on the last")


class AvatarView(BaseModel):
    id: str
    state: Literal["queued", "running", "ready", "failed", "cancelled"]
    job_id: str
    consent: str | None
    num_pictures: int
    created_at: datetime
    base_model: str | None = None
    num_steps: int | None = None
    crop: list[float] | None = Field(
        None, description="left, top, width and height of the face's crop, as shares of the portrait's sides"
    )
    portrait_url: str | None = Field(None, description="the picture whose body and background are shown, once ready")


class AvatarPage(BaseModel):
    avatars: list[AvatarView]
    next: str | None = Field(description="value of `cursor` for the next page; null on the last")


class DriverView(BaseModel):
    id: str
    name: str
    builtin: bool
    num_bytes: int | None
    created_at: datetime | None
    content_url: str


class DriverList(BaseModel):
    drivers: list[DriverView]


class KeyFrame(BaseModel):
    """The sliders at a time; other entries are sliders of `sfumato pose`."""

    model_config = ConfigDict(extra="allow")

    time: float = Field(description="seconds")
    easing: str = "linear"


class KeyFrames(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fps: float = 25.0
    keys: list[KeyFrame]


class VideoBody(BaseModel):
    """A video of a stored or built-in driver, or of key frames."""

    model_config = ConfigDict(extra="forbid")

    driver_id: str | None = Field(None, max_length=64, description="a stored or built-in driver")
    key_frames: KeyFrames | None = Field(None, description="sliders over time, instead of a driver")
    options: VideoOptions = Field(default_factory=VideoOptions)
    webhook: str | None = Field(None, description="URL that is told when the job has ended; its host must be allowed")


class StillBody(BaseModel):
    """One picture of an avatar with an expression and a pose."""

    model_config = ConfigDict(extra="forbid")

    sliders: dict[str, float] = Field(
        default_factory=dict, max_length=12, description="values of `sfumato pose`; 0 for those that are missing"
    )
    max_size: int = Field(512, ge=64, le=1024, description="maximum length of the longer side, pixels")


class SliderView(BaseModel):
    name: str
    lowest: float
    highest: float
    meaning: str


class SettingsView(BaseModel):
    """What a client needs to know before it asks for anything."""

    needs_key: bool = Field(description="whether requests need an API key")
    require_consent: bool = Field(description="whether pictures need a statement of consent")
    max_pictures: int = Field(description="pictures of one avatar")
    max_picture_bytes: int
    max_body_bytes: int
    draws_stills: bool = Field(description="whether `stills` can be drawn")
    drivers_url: str
    parts: list[str] = Field(description="parts of the face that an option of a video names")
    sliders: list[SliderView]


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    type: str = Field("about:blank", description="the kind of problem; about:blank: that of the status")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="one line for people")
    code: str = Field(description="stable word for programs, e.g. queue_full")
