"""Methods and baselines: each generates frames of a person for target landmarks, given T shots."""

from collections.abc import Hashable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
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
from training.warp.apply import WarpedShot, fill_mirrored, warp_full_resolution, warp_with_field
from training.warp.control_points import control_points
from training.warp.field import WarpField, spline_field, warp_field
from training.warp.matted_shot import to_shots
from training.warp.mirrored_light import mirrored_gain
from training.warp.source_choice import nearest_frames

_BATCH = 16
TRUE_FRAME = "true frame"
"""Name of the row of the true frames, the upper bound for methods."""


@dataclass(frozen=True)
class Shots:
    """T frames of a person, at their stored size and at the size that is measured.

    What methods make of the frames alone is made once and shared, with the shots of a smaller T as well.
    """

    stored: Faces
    size: int
    more: "Shots | None" = None
    """Shots of a larger T, which begin with these."""
    _tensors: dict[Hashable, Tensor] = field(default_factory=dict, repr=False, compare=False)
    _warps: dict[Hashable, "_Warped"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def faces(self) -> Faces:
        """The frames at the size that is measured."""
        return self.stored.resized(self.size)

    @cached_property
    def mattes(self) -> UInt8[np.ndarray, "shots size size"]:
        """Mattes of the person at the stored size."""
        if self.more is not None:
            return self.more.mattes[: len(self.stored)]
        segmenter = _segmenter()
        return np.stack([segmenter.matte(*f) for f in zip(self.stored.images, self.stored.landmarks, strict=True)])

    @property
    def portraits(self) -> list[Portrait]:
        """The stored frames as pictures of the person."""
        stored = zip(self.stored.images, self.stored.landmarks, strict=True)
        return [Portrait(image, points, f"shot {number}", "") for number, (image, points) in enumerate(stored)]

    @cached_property
    def mirrored_gains(self) -> Float[Tensor, "shots 3"]:
        """The light of the halves of each face, see `training.warp.mirrored_light`."""
        if self.more is not None:
            return self.more.mirrored_gains[: len(self.stored)]
        faces = zip(self.faces.images, self.faces.landmarks, strict=True)
        return torch.from_numpy(np.stack([mirrored_gain(*face) for face in faces]))

    def first(self, number: int) -> "Shots":
        return Shots(self.stored.first(number), self.size, self)

    def tensors(self, size: int, device: torch.device, *, whole: bool) -> Float[Tensor, "shots 7 size size"]:
        """Return the shots that warps sample, at `size` pixels.

        Args:
            whole: whether the whole frame counts as the person.
        """
        key = size, device, whole
        if self.more is not None:
            return self.more.tensors(size, device, whole=whole)[: len(self.stored)]
        if key not in self._tensors:
            images = self.faces.images if size == self.size else self.stored.resized(size).images
            mattes = np.full_like(images[..., 0], 255) if whole else self._resized_mattes(size)
            self._tensors[key] = to_shots(images, mattes, device)
        return self._tensors[key]

    def _resized_mattes(self, size: int) -> UInt8[np.ndarray, "shots size size"]:
        return np.stack([resize_matte(matte, size) for matte in self.mattes])

    def landmark_images(self, config: ModelConfig, device: torch.device) -> Float[Tensor, "shots 3 h w"]:
        """Return the landmark images at the network's size."""
        key = config.image_size, config.raster, device
        if self.more is not None:
            return self.more.landmark_images(config, device)[: len(self.stored)]
        if key not in self._tensors:
            landmarks = resize_points(self.faces.landmarks, config.image_size / self.size)
            self._tensors[key] = _landmark_images(landmarks, config, device)
        return self._tensors[key]

    def warp_person(
        self, targets: Float[np.ndarray, "batch 68 2"], config: ModelConfig, device: torch.device
    ) -> "_Warped":
        """Return the warp prior's output, which several methods start from."""
        key = targets.tobytes(), config.image_size, config.raster, device
        if key not in self._warps:
            self._warps[key] = _warp_shots(self, targets, config, device)
        return self._warps[key]


class Method(Protocol):
    """A method, one row of the tables."""

    @property
    def name(self) -> str: ...

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        """Generate one frame for each of the target landmarks (pixels at the size of `shots.faces`)."""
        ...


@dataclass(frozen=True)
class WarpAlone:
    """Baseline: the nearest shot, the whole frame warped to the target's landmarks by a spline."""

    config: ModelConfig
    device: torch.device
    name: str = "warp alone"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        warps = (self._warp(shots, batch) for batch in _batches(targets))
        own_size = shots.size == self.config.image_size
        return np.concatenate([to_images(w.small.frame[:, :3] if own_size else w.shown(w.small.field)) for w in warps])

    def _warp(self, shots: Shots, targets: Float[np.ndarray, "batch 68 2"]) -> "_Warped":
        return _warp_shots(shots, targets, self.config, self.device, whole=True)


@dataclass(frozen=True)
class WarpOfPerson(WarpAlone):
    """Baseline: the warp prior's output, with only the person warped, and eyes and mouth treated separately."""

    name: str = "warp of the person"

    def _warp(self, shots: Shots, targets: Float[np.ndarray, "batch 68 2"]) -> "_Warped":
        return shots.warp_person(targets, self.config, self.device)


class FeedForward:
    """A base model without fine-tuning, with the mean embedding of the shots."""

    def __init__(self, name: str, model: BaseModel, device: torch.device) -> None:
        self.name, self.config, self.device = name, model.config.model, device
        self.embedder = deepcopy(model.embedder).to(device).eval()
        self.generator = deepcopy(model.generator).to(device).eval()

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        faces = shots.faces.resized(self.config.image_size)
        with torch.inference_mode():
            frames = to_tensor(faces.images, self.device)
            images = _landmark_images(faces.landmarks, self.config, self.device)
            adain = self.generator.adain_values(self.embedder.embed_shots(frames[None], images[None]))
        return _generate(self.generator, adain, shots, targets, self.config, self.device)


class FineTuned:
    """A base model fine-tuned on the shots (section 3.3)."""

    def __init__(self, name: str, model: BaseModel, config: FineTuneConfig, device: torch.device) -> None:
        self.name, self.model, self.config, self.device = name, model, config, device

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        avatar = fine_tune(self.model, shots.portraits, self.config, device=self.device)
        generator, adain = avatar.generator.to(self.device), avatar.adain_values.to(self.device)
        return _generate(generator, adain, shots, targets, self.model.config.model, self.device)


def form(model: BaseModel) -> str:
    """Describe a base model's architecture."""
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
    """Generate frames at the shots' size; if that is not the network's, upsample them like `Animator`."""
    frames, size = [], shots.size
    for batch in _batches(targets):
        small = resize_points(batch, config.image_size / size)
        images, values = _landmark_images(small, config, device), adain.expand(len(batch), -1)
        warped = shots.warp_person(batch, config, device) if config.warp_prior else None
        generated = generator(images, values, warped and warped.small)
        frame = generated.frame
        if config.image_size != size:
            if warped is None:
                frame = enlarge(frame, size)
            else:
                frame = apply_correction(warped.shown(generated.parts.field), frame, generated.parts.moved)
        frames.append(to_images(frame if warped is None else warped.filled(frame)))
    return np.concatenate(frames)


@dataclass(frozen=True)
class _Warped:
    """Shots warped to targets at the network's size, and the shots at the size that is measured."""

    small: WarpedShot
    shots: Float[Tensor, "batch 7 H W"]

    def shown(self, field: WarpField) -> Float[Tensor, "batch 3 H W"]:
        """Warp the shots at the size that is measured."""
        return warp_full_resolution(self.shots, field)

    def filled(self, frames: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch 3 H W"]:
        """Fill what frames show of skin that the shots hide."""
        return fill_mirrored(frames, self.shots, self.small.field)


@torch.inference_mode()
def _warp_shots(
    shots: Shots,
    targets: Float[np.ndarray, "batch 68 2"],
    config: ModelConfig,
    device: torch.device,
    *,
    whole: bool = False,
) -> _Warped:
    """Warp the nearest shot to each target, as in training; landmarks are in pixels of the shots' size.

    Args:
        whole: whether the whole frame is warped, by one spline, not the person only.
    """
    size, landmarks = config.image_size, shots.faces.landmarks
    source = nearest_frames(landmarks, targets, shots.size)
    ours, theirs = (
        torch.from_numpy(control_points(each, shots.size)).to(device) for each in (landmarks[source], targets)
    )
    # Supersampled for all models, so that the warp's row does not depend on the model; but shots are never enlarged.
    fine = size * SUPERSAMPLING if shots.stored.size > size else shots.size
    small, large = (shots.tensors(side, device, whole=whole)[source] for side in (fine, shots.size))
    images = shots.landmark_images(config, device)[source]
    if whole:
        field = spline_field(ours, theirs, size)
    else:
        field = warp_field(ours, theirs, mirrored_gain=shots.mirrored_gains[source].to(device))
    return _Warped(warp_with_field(small, images, field), large)


@lru_cache(maxsize=1)
def _segmenter() -> PersonSegmenter:
    return PersonSegmenter()


def _landmark_images(
    landmarks: Float[np.ndarray, "batch 68 2"], config: ModelConfig, device: torch.device
) -> Float[Tensor, "batch 3 h w"]:
    return rasterize_batch(torch.from_numpy(landmarks).to(device), config.image_size, config.raster)


def _batches(targets: Float[np.ndarray, "frames 68 2"]) -> list[Float[np.ndarray, "batch 68 2"]]:
    return [targets[first : first + _BATCH] for first in range(0, len(targets), _BATCH)]
