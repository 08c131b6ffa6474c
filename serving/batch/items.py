"""The videos to make, and the tasks that workers carry out for them. Plain data: it travels to workers by pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines.faces.identity.face_choice import FaceChoice
from serving.batch.inputs import Input
from serving.batch.results.sidecars import Sidecar

if TYPE_CHECKING:
    from training.animation.render import RenderOptions


FILM_PARTS = ("lips",)
"""The parts of a film that follow the driver unless others are asked for: the film is dubbed."""


@dataclass(frozen=True)
class AvatarSource:
    """What an avatar is made of; two items with equal ones share the avatar."""

    input: Input
    face: FaceChoice | None = None
    """Which face of the picture or film; None: the largest."""


@dataclass(frozen=True)
class Item:
    """One video: a source, a driver and options."""

    name: str
    """Name of the video's files, without suffix."""
    source: AvatarSource
    driver: Input
    options: RenderOptions
    has_own_name: bool = False
    """Whether the user chose the name."""


@dataclass(frozen=True)
class AvatarTask:
    """Make an avatar, or load one that an earlier run has made."""

    source: AvatarSource

    @property
    def name(self) -> str:
        return f"avatar {self.source.input.name}"


@dataclass(frozen=True)
class VideoTask:
    """Render a video, whose avatar exists."""

    item: Item
    key: str
    """For the sidecar: hash of everything that decides the video."""

    @property
    def name(self) -> str:
        return self.item.name


@dataclass(frozen=True)
class MosaicTask:
    """Join the finished videos of a source."""

    name: str
    key: str
    videos: tuple[tuple[str, Sidecar], ...]
    """Names of the videos and their sidecars, in the order of the row."""


Task = AvatarTask | VideoTask | MosaicTask


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    started_at: datetime
    finished_at: datetime
    reason: str | None = None
    """One line; None: the task succeeded."""
    sidecar: Sidecar | None = None
    """Of a finished video or mosaic."""

    @property
    def ok(self) -> bool:
        return self.reason is None


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def every_pair(
    sources: Sequence[Input],
    drivers: Sequence[Input],
    options: RenderOptions,
    face: FaceChoice | None,
    film_parts: tuple[str, ...] = FILM_PARTS,
) -> tuple[Item, ...]:
    """Return the items of every source with every driver, source by source.

    Args:
        film_parts: the parts of a film that are driven, instead of the options'.
    """
    return tuple(
        Item(default_name(source, driver), AvatarSource(source, face), driver, options_for(source, options, film_parts))
        for source in sources
        for driver in drivers
    )


def options_for(source: Input, options: RenderOptions, film_parts: tuple[str, ...]) -> RenderOptions:
    """Return the options of a source: of a film, `film_parts` are driven."""
    if source.kind != "film":
        return options
    return replace(options, motion=replace(options.motion, parts=film_parts))


def default_name(source: Input, driver: Input) -> str:
    """Return SOURCE--DRIVER."""
    return f"{source.name}--{driver.name}"
