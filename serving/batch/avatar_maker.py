"""Sources -> avatars -> videos with the real networks: what `animate` works with. Loads a model only when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines import storage
from pipelines.faces.detectors import create_detector
from serving.batch.inputs import Input
from serving.batch.sidecars import key_of
from serving.batch.workspace import Workspace
from training.checkpoints.model_registry import resolve
from training.losses.perceptual_files import PerceptualFiles

if TYPE_CHECKING:  # torch loads when the first avatar is needed: a second run that finds all done never does
    from training.animation.render import RenderOptions, RenderReport
    from training.avatars.avatar import Avatar
    from training.checkpoints.bundle import BaseModel

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Shot:
    """One video to make, with local paths."""

    driver: Path
    out: Path
    side_by_side: Path | None


class AvatarMaker(Protocol):
    """Makes avatars and videos."""

    def version(self, source: Input) -> str:
        """What, besides the source itself, decides its avatar: the base model and how it is fine-tuned."""
        ...

    def avatar(self, source: Input, on_step: OnStep) -> Avatar:
        """The avatar of a source; of a picture, made now. ValueError or OSError: it cannot be had."""
        ...

    def film(self, avatar: Avatar, shot: Shot, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        """Write the videos of a shot. ValueError: the driver cannot be used."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How pictures become avatars."""

    model: str
    """Base model."""
    num_steps: int | None = None
    """None: the stop rule decides."""
    face: int | None = None
    perceptual_files: PerceptualFiles | None = None
    """Weights that the base model was trained with and no registry carries."""


class ModelAvatarMaker:
    """The studio with the real networks. Avatars of pictures are kept below `avatars/` of the workspace's folder.

    Raises:
        FileNotFoundError: the base model does not exist.
        ValueError: it is none.
    """

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        self._recipe = recipe
        self._workspace = workspace
        self._model_url = resolve(recipe.model)
        self._detector = cache(create_detector)

    @cached_property
    def _model(self) -> BaseModel:
        from training.checkpoints.bundle import load_bundle

        return load_bundle(self._model_url)

    @cached_property
    def _model_version(self) -> str:
        return hashlib.sha256(storage.read_bytes(storage.join(self._model_url, "manifest.json"))).hexdigest()

    def version(self, source: Input) -> str:
        if source.kind == "avatar":
            return ""  # its manifest's hash covers everything
        return key_of(self._model_version, str(self._recipe.num_steps), str(self._recipe.face))

    def avatar(self, source: Input, on_step: OnStep) -> Avatar:
        from training.avatars.avatar import load_avatar, save_avatar

        if source.kind == "avatar":
            return load_avatar(source.url)
        key = key_of(source.sha256, self.version(source))
        kept = storage.join(self._workspace.out, "avatars", f"{source.name}-{key[:8]}")
        if storage.exists(storage.join(kept, "manifest.json")):
            return load_avatar(kept)
        avatar = self._fine_tune(source, on_step)
        save_avatar(avatar, kept, None)
        return avatar

    def _fine_tune(self, source: Input, on_step: OnStep) -> Avatar:
        from training.avatars.finetune import FineTuneConfig, fine_tune
        from training.avatars.portraits import find_portraits

        detector = self._detector(self._model.config.model.detector)
        portraits = find_portraits([str(self._workspace.input(source.url))], detector, face=self._recipe.face)

        def report(step: int, total: int, _losses: Mapping[str, float]) -> None:
            on_step(step, total)

        config = FineTuneConfig(num_steps=self._recipe.num_steps)
        return fine_tune(self._model, portraits, config, report, self._recipe.perceptual_files)

    def film(self, avatar: Avatar, shot: Shot, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        from training.animation.render import render

        return render(
            avatar,
            shot.driver,
            shot.out,
            options,
            detector=self._detector(avatar.config.detector),
            side_by_side=shot.side_by_side,
            on_frame=on_frame,
        )
