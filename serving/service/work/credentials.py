"""What the credentials of the service's films and pictures say. Uploads are private: hashes stand for their names."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.provenance.marks import Ingredient, Provenance
from pipelines.storage.hashing import sha256_of
from serving.batch.marking import animate_command
from training.animation.motion.sliders import Sliders

if TYPE_CHECKING:
    from training.animation.render import RenderOptions
    from training.avatars.avatar import Avatar


def video_provenance(avatar: Avatar, driver: Path, options: RenderOptions) -> Provenance:
    """Return how a video is made of an avatar and a driver's file."""
    from training.avatars.provenance import provenance_of

    used, plain = Ingredient("driver", "driver", sha256_of(driver)), asdict(options)
    command = animate_command("AVATAR", ["DRIVER"], plain)
    return provenance_of(avatar, (*_portraits(avatar), used), plain, command)


def still_provenance(avatar: Avatar, sliders: Sliders) -> Provenance:
    """Return how a picture is drawn with sliders."""
    from training.avatars.provenance import provenance_of

    moved = {name: value for name, value in asdict(sliders).items() if value != getattr(Sliders(), name)}
    flags = (word for name, value in moved.items() for word in (f"--{name.replace('_', '-')}", str(value)))
    command = shlex.join(["sfumato", "pose", "AVATAR", "-o", "still.jpg", *flags])
    return provenance_of(avatar, _portraits(avatar), moved, command)


def _portraits(avatar: Avatar) -> Sequence[Ingredient]:
    from training.avatars.provenance import portraits_of

    return [replace(each, name=f"portrait {number}") for number, each in enumerate(portraits_of(avatar), 1)]
