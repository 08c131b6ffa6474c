"""Sources -> avatars -> videos, for `animate`. torch and the base model are loaded only when an avatar is needed."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipelines import storage
from pipelines.faces.detectors import create_detector
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice, parse_face_choice
from pipelines.media.decoder.process import Decoder, Limits
from serving.batch.items import AvatarSource
from serving.batch.results.sidecars import cache_key
from serving.batch.workspace import AVATARS, Workspace
from training.animation.motion.formats import is_motion
from training.checkpoints.model_registry import resolve
from training.losses.perceptual_files import PerceptualFiles

if TYPE_CHECKING:  # a second run that finds every video done never loads torch
    import torch

    from pipelines.faces.face import LandmarkDetector
    from training.animation.animator import Animator
    from training.animation.driver_track import DriverTrack
    from training.animation.preview.driver_sample import DriverSample
    from training.animation.preview.preview import PreviewPlan
    from training.animation.render import RenderOptions, RenderReport
    from training.avatars.avatar import Avatar
    from training.checkpoints.bundle import BaseModel

OnStep = Callable[[int, int], None]
_PREVIEW_SIZE = 512
_MAX_TRACKS = 32  # in memory: half a megabyte for 1,000 frames


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

    def render(self, avatar: LoadedAvatar, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
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
        # The first to decode a driver is a process that may crash or hang.
        self._decoder = Decoder(Limits(clip_s=math.inf))
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
        return LoadedAvatar(self._load_or_make(source, on_step))

    def _load_or_make(self, source: AvatarSource, on_step: OnStep) -> Avatar:
        from training.avatars.avatar import load_avatar, save_avatar

        if source.input.kind == "avatar":
            return load_avatar(source.input.url)
        key = cache_key(source.input.sha256, self.version(source))
        kept = storage.join(self._workspace.out, AVATARS, f"{source.input.name}-{key[:8]}")
        if storage.exists(storage.join(kept, "manifest.json")):
            return load_avatar(kept)
        avatar = self._fine_tune(source, on_step, self._options.num_steps)
        save_avatar(avatar, kept, None)
        return avatar

    def draft(self, source: AvatarSource) -> LoadedAvatar:
        """Load the avatar of a source, or make one of a picture without fine-tuning, which is not stored."""
        from training.avatars.avatar import load_avatar

        if source.input.kind == "avatar":
            return LoadedAvatar(load_avatar(source.input.url))
        return LoadedAvatar(self._fine_tune(source, lambda _done, _total: None, 0))

    def sample(self, avatar: LoadedAvatar, driver: Path, options: RenderOptions) -> DriverSample:
        """Look at a few frames of a driver. Raises ValueError when it cannot be used."""
        from training.animation.preview.driver_sample import sample_driver

        if is_motion(driver.name):
            raise ValueError(f"{driver}: a preview is made of a driving video, not of a motion file")
        detector = self._detector(avatar.avatar.config.detector)
        return sample_driver(driver, detector, parse_face_choice(options.driver_face), decoder=self._decoder)

    def plan(self, avatar: LoadedAvatar, sample: DriverSample, options: RenderOptions) -> PreviewPlan:
        """Choose what a pair's preview shows, drawn with at most `_PREVIEW_SIZE` pixels."""
        from training.animation.preview.preview import plan_preview

        small = replace(options, max_size=min(options.max_size, _PREVIEW_SIZE))
        return plan_preview(self._animator(avatar, small), sample, options)

    def _fine_tune(self, source: AvatarSource, on_step: OnStep, num_steps: int | None) -> Avatar:
        from training.avatars.finetune import FineTuneConfig, fine_tune
        from training.avatars.portraits import find_portraits

        detector = self._detector(self._model.config.model.detector)
        portraits = find_portraits([source.input.url], detector, face=source.face or LARGEST)

        def report(step: int, total: int, _losses: Mapping[str, float]) -> None:
            on_step(step, total)

        config = FineTuneConfig(num_steps=num_steps)
        return fine_tune(self._model, portraits, config, report, self._options.perceptual_files, self._device)

    def render(self, avatar: LoadedAvatar, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        from training.animation.render import render

        animator = self._animator(avatar, options)
        detector = self._detector(avatar.avatar.config.detector)
        face = parse_face_choice(options.driver_face)
        track = self._tracks.get(files, detector, face, lambda done, total: on_frame(done // 2, total))

        def report(done: int, total: int) -> None:
            on_frame((total + done) // 2, total)

        return render(
            animator,
            None if is_motion(files.driver.name) else files.driver,
            track,
            files.out,
            options,
            side_by_side=files.side_by_side,
            on_frame=report,
        )

    def _animator(self, avatar: LoadedAvatar, options: RenderOptions) -> Animator:
        from training.animation.animator import Animator

        key, animators = (options.max_size, options.precision), avatar.animators
        if key not in animators:
            animators[key] = Animator(
                avatar.avatar, max_size=options.max_size, device=self._device, precision=options.precision
            )
        return animators[key]


class DriverTracks:
    """Tracks of drivers, which are the same for all avatars: in memory, and in a folder for this machine's workers."""

    def __init__(self, folder: Path, decoder: Decoder) -> None:
        self._folder, self._decoder = folder, decoder
        self._known: OrderedDict[str, DriverTrack | str] = OrderedDict()
        """Tracks, or the reasons why there are none, by driver and detector."""

    def get(self, files: VideoFiles, detector: LandmarkDetector, face: FaceChoice, on_frame: OnStep) -> DriverTrack:
        """Return the track of a person in the driver among `files`.

        Raises:
            ValueError: the driver is no video or does not show the face.
        """
        key = f"track-{files.driver_sha256}-{detector.name}-{face}"
        if key not in self._known:
            self._known[key] = self._load_or_track(key, files.driver, detector, face, on_frame)
        self._known.move_to_end(key)
        while len(self._known) > _MAX_TRACKS:
            self._known.popitem(last=False)
        known = self._known[key]
        if isinstance(known, str):
            raise ValueError(known)
        return known

    def _load_or_track(
        self, key: str, driver: Path, detector: LandmarkDetector, face: FaceChoice, on_frame: OnStep
    ) -> DriverTrack | str:
        from training.animation.motion.drivers import read_driver

        path = self._folder / f"{key}.npz"
        if path.exists():
            return _load(path)
        try:
            track = read_driver(driver, detector, decoder=self._decoder, face=face, on_frame=on_frame)
        except ValueError as error:
            return str(error)
        if not is_motion(driver.name):  # which is read faster than a copy is written
            _save(path, track)
        return track


def _save(path: Path, track: DriverTrack) -> None:
    with storage.atomic_write(str(path)) as sink:
        np.savez(
            sink,
            landmarks=track.landmarks,
            gaze=track.gaze,
            found=track.found,
            seconds=track.times.seconds,
            fps=np.array(str(track.times.fps)),
            constant=np.array(track.times.constant),
            detector=np.array(track.detector),
        )


def _load(path: Path) -> DriverTrack:
    from pipelines.media.frame_times import FrameTimes
    from training.animation.driver_track import DriverTrack

    with np.load(path, allow_pickle=False) as file:
        times = FrameTimes(file["seconds"], Fraction(str(file["fps"])), bool(file["constant"]))
        return DriverTrack(file["landmarks"], file["gaze"], file["found"], times, str(file["detector"]))
