"""What is compared: ways to draw a person's face with landmarks moved, given T shots. None sees a hold-out frame."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines.faces.landmark_image import rasterize_batch
from pipelines.faces.person_matte import PersonSegmenter, resize_matte
from training.animation.upsample import apply_correction, enlarge
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel
from training.config import SUPERSAMPLING, ModelConfig
from training.evaluation.metrics.faces import Faces
from training.images import resize_points, to_images, to_tensor
from training.models.generator import Generator
from training.warp.matted_shot import to_shots
from training.warp.source_choice import nearest_frames
from training.warp.warp import (
    WarpedShot,
    WarpField,
    control_points,
    spline_field,
    warp_field,
    warp_full_resolution,
    warp_with_field,
)

_BATCH = 16
TRUE_FRAME = "true frame"
"""Not a method: what a perfect one would get, in the same table."""


@dataclass(frozen=True)
class Shots:
    """T frames of a person as they are stored, and at the size that is measured."""

    stored: Faces
    size: int

    @cached_property
    def faces(self) -> Faces:
        """At the size that is measured."""
        return self.stored.resized(self.size)

    @cached_property
    def mattes(self) -> UInt8[np.ndarray, "shots size size"]:
        """How much of each stored pixel is a person."""
        segmenter = _segmenter()
        return np.stack([segmenter.matte(*f) for f in zip(self.stored.images, self.stored.landmarks, strict=True)])

    def first(self, number: int) -> "Shots":
        return Shots(self.stored.first(number), self.size)


class Method(Protocol):
    """One row of the tables."""

    @property
    def name(self) -> str: ...

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        """One frame for each of the target landmarks (pixels at the size of `shots.faces`)."""
        ...


@dataclass(frozen=True)
class StaticPortrait:
    """The first shot, whatever is asked for."""

    name: str = "static portrait"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        return np.repeat(shots.faces.images[:1], len(targets), axis=0)


@dataclass(frozen=True)
class MeanFrame:
    """The mean of the shots."""

    name: str = "mean frame"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        mean = np.rint(shots.faces.images.mean(axis=0, keepdims=True)).astype(np.uint8)
        return np.repeat(mean, len(targets), axis=0)


@dataclass(frozen=True)
class NearestFrame:
    """The shot whose landmarks lie nearest to the target's: mean distance of the 68 points.

    Place and scale count: the frame is shown as it is, so that a face elsewhere is another picture.
    """

    name: str = "nearest frame"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        distance = np.linalg.norm(targets[:, None] - shots.faces.landmarks, axis=-1).mean(axis=-1)
        nearest: np.ndarray = shots.faces.images[distance.argmin(axis=1)]
        return nearest


@dataclass(frozen=True)
class WarpAlone:
    """The nearest shot, bent to the target's landmarks by a spline, all of it."""

    config: ModelConfig
    device: torch.device
    name: str = "warp alone"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        warps = (self._warp(shots, batch) for batch in _batches(targets))
        own_size = shots.size == self.config.image_size
        return np.concatenate([to_images(w.seen.frame[:, :3] if own_size else w.shown(w.seen.field)) for w in warps])

    def _warp(self, shots: Shots, targets: Float[np.ndarray, "batch 68 2"]) -> "_Warped":
        everything = np.full_like(shots.stored.images[..., 0], 255)
        how = partial(spline_field, size=self.config.image_size)
        return _warp_shots(shots, targets, everything, self.config, self.device, how)


@dataclass(frozen=True)
class WarpOfPerson(WarpAlone):
    """What a generator with the warp prior starts from: only the person is bent, lids and lips by ways of their own."""

    name: str = "warp of the person"

    def _warp(self, shots: Shots, targets: Float[np.ndarray, "batch 68 2"]) -> "_Warped":
        return _warp_shots(shots, targets, shots.mattes, self.config, self.device)


class FeedForward:
    """A base model with nothing tuned: the mean embedding of the shots."""

    def __init__(self, name: str, model: BaseModel, device: torch.device) -> None:
        self.name, self.config, self.device = name, model.config.model, device
        self.embedder = deepcopy(model.embedder).to(device).eval()
        self.generator = deepcopy(model.generator).to(device).eval()

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        seen = shots.faces.resized(self.config.image_size)
        with torch.inference_mode():
            frames = to_tensor(seen.images, self.device)
            images = _landmark_images(seen.landmarks, self.config, self.device)
            adain = self.generator.adain_values(self.embedder.embed_shots(frames[None], images[None]))
        return _generate(self.generator, adain, shots, targets, self.config, self.device)


class FineTuned:
    """A base model fine-tuned on the shots (section 3.3)."""

    def __init__(self, name: str, model: BaseModel, config: FineTuneConfig, device: torch.device) -> None:
        self.name, self.model, self.config, self.device = name, model, config, device

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        stored = zip(shots.stored.images, shots.stored.landmarks, strict=True)
        portraits = [Portrait(image, points, f"shot {number}", "") for number, (image, points) in enumerate(stored)]
        avatar = fine_tune(self.model, portraits, self.config)
        generator, adain = avatar.generator.to(self.device), avatar.adain_values.to(self.device)
        return _generate(generator, adain, shots, targets, self.model.config.model, self.device)


def form(model: BaseModel) -> str:
    """Which network a base model is."""
    return "with the warp prior" if model.config.model.warp_prior else "published form"


@torch.inference_mode()
def _generate(
    generator: Generator,
    adain: Float[Tensor, "1 values"],
    shots: Shots,
    targets: Float[np.ndarray, "frames 68 2"],
    config: ModelConfig,
    device: torch.device,
) -> UInt8[np.ndarray, "frames size size 3"]:
    """Frames of the shots' size: as the network draws them where it is its own, else as `Animator` shows them."""
    drawn, size = [], shots.size
    for batch in _batches(targets):
        seen = resize_points(batch, config.image_size / size)
        images, values = _landmark_images(seen, config, device), adain.expand(len(batch), -1)
        warped = _warp_shots(shots, batch, shots.mattes, config, device) if config.warp_prior else None
        generated = generator(images, values, warped and warped.seen)
        frame = generated.frame
        if config.image_size != size:
            if warped is None:
                frame = enlarge(frame, size)
            else:
                frame = apply_correction(warped.shown(generated.parts.field), frame, generated.parts.moved)
        drawn.append(to_images(frame))
    return np.concatenate(drawn)


@dataclass(frozen=True)
class _Warped:
    """Shots bent to targets: as the network sees them, and as they are shown where that is larger."""

    seen: WarpedShot
    shots: Float[Tensor, "batch 7 H W"]

    def shown(self, field: WarpField) -> Float[Tensor, "batch 3 H W"]:
        """The shots at the size that is measured, bent as the warp says or otherwise."""
        return warp_full_resolution(self.shots, field)


@torch.inference_mode()
def _warp_shots(
    shots: Shots,
    targets: Float[np.ndarray, "batch 68 2"],
    mattes: UInt8[np.ndarray, "shots size size"],
    config: ModelConfig,
    device: torch.device,
    how: Callable[..., WarpField] = warp_field,
) -> _Warped:
    """For each target the nearest shot, bent to it, as in training; all in pixels of the shots' size.

    Args:
        mattes: what is bent of each shot as it is stored.
    """
    size, landmarks = config.image_size, shots.faces.landmarks
    source = nearest_frames(landmarks, targets, shots.size)
    ours, wanted = (
        torch.from_numpy(control_points(points, shots.size)).to(device) for points in (landmarks[source], targets)
    )
    # As finely for a model of the published form: the row of the warp is the same beside any. But nothing is enlarged.
    fine = shots.stored.resized(size * SUPERSAMPLING) if shots.stored.size > size else shots.faces
    images = _landmark_images(resize_points(landmarks[source], size / shots.size), config, device)
    small, large = (
        to_shots(faces.images[source], np.stack([resize_matte(mattes[shot], faces.size) for shot in source]), device)
        for faces in (fine, shots.faces)
    )
    return _Warped(warp_with_field(small, images, how(ours, wanted)), large)


@lru_cache(maxsize=1)
def _segmenter() -> PersonSegmenter:
    return PersonSegmenter()


def _landmark_images(
    landmarks: Float[np.ndarray, "batch 68 2"], config: ModelConfig, device: torch.device
) -> Float[Tensor, "batch 3 h w"]:
    return rasterize_batch(torch.from_numpy(landmarks).to(device), config.image_size, config.raster)


def _batches(targets: Float[np.ndarray, "frames 68 2"]) -> list[Float[np.ndarray, "batch 68 2"]]:
    return [targets[first : first + _BATCH] for first in range(0, len(targets), _BATCH)]
