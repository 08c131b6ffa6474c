"""Sources -> avatars -> videos, for `animate`. torch and the base model are loaded only when an avatar is needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines import storage
from pipelines.faces.detectors import create_detector, create_picture_detector
from pipelines.faces.identity.face_choice import LARGEST, parse_face_choice
from pipelines.media.decoder.process import Decoder, Limits
from serving.batch.driver_tracks import DriverTracks, OnStep
from serving.batch.items import AvatarSource
from serving.batch.results.sidecars import cache_key
from serving.batch.workspace import AVATARS, Workspace
from training.animation.motion.formats import is_film, is_motion
from training.checkpoints.model_registry import resolve
from training.checkpoints.shipped import SHIPPED, named_or_shipped
from training.losses.perceptual_files import PerceptualFiles

if TYPE_CHECKING:  # a second run that finds every video done never loads torch
    import torch

    from training.animation.animator import Animator
    from training.animation.driver_track import DriverTrack
    from training.animation.preview.driver_sample import DriverSample
    from training.animation.preview.preview import PreviewPlan
    from training.animation.render import RenderOptions, RenderReport
    from training.avatars.avatar import Avatar
    from training.checkpoints.bundle import BaseModel

OnPicture = Callable[[Any], None]
"""Called with every picture of a video that is drawn: RGB, uint8, (height, width, 3)."""
_PREVIEW_SIZE = 512


@dataclass(frozen=True)
class VideoFiles:
    """Local paths of one video to render."""

    driver: Path
    driver_sha256: str
    out: Path
    side_by_side: Path | None


@dataclass(frozen=True)
class LoadedAvatar:
    """An avatar in memory, ready to render."""

    avatar: Avatar
    animators: dict[tuple[int, str], Animator] = field(default_factory=dict)
    """By the `max_size` and `precision` of the options."""
    film: tuple[str, DriverTrack] | None = None
    """Path or URL of the film that is the source, and its track; None for pictures and avatars."""
    flags: tuple[str, ...] = ()
    """Flags of `animate` that the avatar was made with, where they are no defaults."""

    @property
    def base_version(self) -> str:
        """Version of the base model."""
        return self.avatar.base_version


class AvatarMaker(Protocol):
    """Makes avatars and renders videos of them."""

    def check(self) -> None:
        """Raise ValueError when this process cannot work, such as without the device that is asked for."""
        ...

    def version(self, source: AvatarSource) -> str:
        """Return a key of the base model and the fine-tuning options, which decide a picture's avatar."""
        ...

    def avatar(self, source: AvatarSource, on_step: OnStep) -> LoadedAvatar:
        """Load the avatar of a source, or fine-tune it for a picture.

        Raises:
            ValueError, OSError: the source cannot be used.
        """
        ...

    def render(
        self,
        avatar: LoadedAvatar,
        files: VideoFiles,
        options: RenderOptions,
        on_frame: OnStep,
        on_picture: OnPicture | None = None,
    ) -> RenderReport:
        """Render the videos of one driver. Raises ValueError when the driver cannot be used."""
        ...


@dataclass(frozen=True)
class AvatarOptions:
    """How avatars are made of pictures."""

    model: str
    """Base model: a bundle's path or URL, or models:/NAME@ALIAS."""
    num_steps: int | None = None
    """Fine-tuning steps; None: the stop rule decides."""
    perceptual_files: PerceptualFiles | None = None
    """Weights of the perceptual networks, for a base model that was trained with weights that cannot be fetched."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda or cuda:N; see `choose_device`."""


class ModelAvatarMaker:
    """Makes avatars with a base model. Avatars of pictures are kept below `avatars/` of the workspace's folder.

    Raises:
        FileNotFoundError: the base model does not exist.
        ValueError: it is not a base model.
    """

    def __init__(self, options: AvatarOptions, workspace: Workspace) -> None:
        self._options = options
        self._workspace = workspace
        self._model_url = resolve(options.model)
        self._detector = cache(create_detector)
        self._picture_detector = cache(create_picture_detector)
        # The first to decode a driver is a process that may crash or hang.
        self._decoder = Decoder(Limits(clip_s=math.inf))
        self._decoder.start()  # while the model is loaded
        self._tracks = DriverTracks(workspace.shared, self._decoder)

    @cached_property
    def _model(self) -> BaseModel:
        from training.checkpoints.bundle import load_bundle

        return load_bundle(self._model_url)

    @cached_property
    def _model_version(self) -> str:
        return hashlib.sha256(storage.read_bytes(storage.join(self._model_url, "manifest.json"))).hexdigest()

    @cached_property
    def _device(self) -> torch.device:
        from training.device import choose_device

        return choose_device(self._options.device)

    def check(self) -> None:
        assert self._device

    def version(self, source: AvatarSource) -> str:
        if source.input.kind == "avatar":
            return ""  # the hash of its manifest covers everything
        return cache_key(self._model_version, str(self._options.num_steps), str(source.face))

    def avatar(self, source: AvatarSource, on_step: OnStep) -> LoadedAvatar:
        track = self._film_track(source, on_step) if source.input.kind == "film" else None
        avatar = self._load_or_make(source, track, on_step)
        film = None if track is None else (source.input.url, track)
        return LoadedAvatar(avatar, film=film, flags=self._flags(source))

    def _flags(self, source: AvatarSource) -> tuple[str, ...]:
        """Return flags that make the avatar again, without the folders of files."""
        if source.input.kind == "avatar":
            return ()
        model = self._options.model
        named = model if model.startswith("models:/") else storage.name(model)
        pairs = {
            "--model": None if named_or_shipped(model) == SHIPPED else named,
            "--num-steps": self._options.num_steps,
            "--face": source.face,
        }
        return tuple(word for flag, value in pairs.items() if value is not None for word in (flag, str(value)))

    def _film_track(self, source: AvatarSource, on_step: OnStep) -> DriverTrack:
        path, detector = self._workspace.input(source.input.url), self._detector(self._model.config.model.detector)
        return self._tracks.get(path, source.input.sha256, detector, source.face or LARGEST, on_step)

    def _load_or_make(self, source: AvatarSource, track: DriverTrack | None, on_step: OnStep) -> Avatar:
        from training.avatars.avatar import load_avatar, save_avatar

        if source.input.kind == "avatar":
            return load_avatar(source.input.url)
        key = cache_key(source.input.sha256, self.version(source))
        kept = storage.join(self._workspace.out, AVATARS, f"{source.input.name}-{key[:8]}")
        if storage.exists(storage.join(kept, "manifest.json")):
            return load_avatar(kept)
        avatar = self._fine_tune(source, track, on_step, self._options.num_steps)
        save_avatar(avatar, kept, None)
        return avatar

    def draft(self, source: AvatarSource) -> LoadedAvatar:
        """Load the avatar of a source, or make one of a picture without fine-tuning, which is not stored."""
        from training.avatars.avatar import load_avatar

        if source.input.kind == "film":
            raise ValueError(f"{source.input.url}: a preview is made of a picture or an avatar, not of a film")
        if source.input.kind == "avatar":
            return LoadedAvatar(load_avatar(source.input.url))
        return LoadedAvatar(self._fine_tune(source, None, lambda _done, _total: None, 0), flags=self._flags(source))

    def sample(self, avatar: LoadedAvatar, driver: Path, options: RenderOptions) -> DriverSample:
        """Look at a few frames of a driver. Raises ValueError when it cannot be used."""
        from training.animation.preview.driver_sample import sample_driver

        if not is_film(driver.name):
            raise ValueError(f"{driver}: a preview is made of a driving video, not of a motion file or speech")
        detector = self._detector(avatar.avatar.config.detector)
        return sample_driver(driver, detector, parse_face_choice(options.driver_face), decoder=self._decoder)

    def plan(self, avatar: LoadedAvatar, sample: DriverSample, options: RenderOptions) -> PreviewPlan:
        """Choose what a pair's preview shows, drawn with at most `_PREVIEW_SIZE` pixels."""
        from training.animation.preview.preview import plan_preview

        small = replace(options, max_size=min(options.max_size, _PREVIEW_SIZE))
        return plan_preview(self._animator(avatar, small), sample, options)

    def _fine_tune(
        self, source: AvatarSource, track: DriverTrack | None, on_step: OnStep, num_steps: int | None
    ) -> Avatar:
        """Make an avatar of a picture, or of frames of a film with its track."""
        from training.animation.film.film_shots import film_portraits
        from training.avatars.finetune import FineTuneConfig, fine_tune
        from training.avatars.portraits import find_portraits

        if track is not None:
            portraits, num_steps = film_portraits(self._workspace.input(source.input.url), track), num_steps or 0
        else:
            detector = self._picture_detector(self._model.config.model.detector)
            portraits = find_portraits([source.input.url], detector, face=source.face or LARGEST)

        def report(step: int, total: int, _losses: Mapping[str, float]) -> None:
            on_step(step, total)

        config = FineTuneConfig(num_steps=num_steps)
        return fine_tune(self._model, portraits, config, report, self._options.perceptual_files, self._device)

    def render(
        self,
        avatar: LoadedAvatar,
        files: VideoFiles,
        options: RenderOptions,
        on_frame: OnStep,
        on_picture: OnPicture | None = None,
    ) -> RenderReport:
        from training.animation.film.render_film import Film, render_film
        from training.animation.render import render

        animator = self._animator(avatar, options)
        detector = self._detector(avatar.avatar.config.detector)
        face = parse_face_choice(options.driver_face)
        track = self._tracks.get(
            files.driver, files.driver_sha256, detector, face, lambda done, total: on_frame(done // 2, total)
        )

        def report(done: int, total: int) -> None:
            on_frame((total + done) // 2, total)

        driver = None if is_motion(files.driver.name) else files.driver
        more: dict[str, Any] = {"side_by_side": files.side_by_side, "on_frame": report, "on_picture": on_picture}
        if avatar.film is None:
            return render(animator, driver, track, files.out, options, **more)
        url, own_track = avatar.film
        film = Film(self._workspace.input(url), own_track)
        return render_film(animator, film, driver, track, files.out, options, **more)

    def _animator(self, avatar: LoadedAvatar, options: RenderOptions) -> Animator:
        from training.animation.animator import Animator

        key, animators = (options.max_size, options.precision), avatar.animators
        if key not in animators:
            animators[key] = Animator(
                avatar.avatar, max_size=options.max_size, device=self._device, precision=options.precision
            )
        return animators[key]
