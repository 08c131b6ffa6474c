"""Augmentation of episodes: flip, brightness, contrast, saturation, rotation, scale and shift.

Off by default, as in the paper. All parameters except the camera's are drawn per episode, not per frame: with shots in
another light or before another background than the target, the networks could not know what to generate. Draws are a
pure function of the seed and the episode's number in the run, independent of resumes and the number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.head_pose import MIRRORED
from training.config import Augmentation
from training.device import send

_STREAM = 3  # of random numbers; 0 and 1 are for episodes, 2 for the order of shards
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True)
class AugmentationDraws:
    """Augmentation parameters of the episodes of a batch."""

    flip: Bool[np.ndarray, "batch"]
    brightness: Float[np.ndarray, "batch"]
    """Added to pixels in [-1, 1]."""
    contrast: Float[np.ndarray, "batch"]
    """Factor of the difference from mid-grey; 1: unchanged."""
    saturation: Float[np.ndarray, "batch"]
    """Factor of the difference from the pixel's luma; 1: unchanged."""
    angle: Float[np.ndarray, "batch frames"]
    """Radians, clockwise in the image."""
    scale: Float[np.ndarray, "batch frames"]
    shift: Float[np.ndarray, "batch frames 2"]
    """Right and down, as a fraction of the image's side."""

    @property
    def linear(self) -> Float[np.ndarray, "batch frames 2 2"]:
        """Matrices of rotation and scale about the image's centre."""
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def draw_augmentation(
    augmentation: Augmentation, seed: int, episodes: Sequence[int], num_frames: int
) -> AugmentationDraws | None:
    """Draw parameters for the episodes with these numbers; None if all augmentation is off.

    Draws of one kind do not depend on whether the others are on.
    """
    if augmentation == Augmentation():
        return None
    generators = [np.random.default_rng((seed, _STREAM, episode)) for episode in episodes]
    flip, brightness, contrast, saturation, angle, scale, right, down = np.stack(
        [random.uniform(-1, 1, 8) for random in generators], axis=1
    )
    # The strength is 0 for half of the episodes and, being squared, small for most of the others.
    shake = augmentation.camera * np.stack([max(random.uniform(-1, 1), 0) for random in generators])[:, None] ** 2
    zoom, turn, *offset = np.moveaxis(np.stack([random.uniform(-1, 1, (num_frames, 4)) for random in generators]), 2, 0)
    colour, affine = augmentation.colour, augmentation.affine
    return AugmentationDraws(
        flip=(flip < 0) & augmentation.flip,
        brightness=colour * brightness,
        contrast=1 + colour * contrast,
        saturation=1 + colour * saturation,
        angle=affine * angle[:, None] + shake / 4 * turn,
        scale=(1 + affine * scale[:, None]) * np.exp(shake * zoom),
        shift=affine * np.stack([right, down], -1)[:, None] + shake[..., None] / 3 * np.stack(offset, -1),
    )


def augment_landmarks(
    landmarks: Float[np.ndarray, "batch frames 68 2"], draws: AugmentationDraws, size: int
) -> Float[np.ndarray, "batch frames 68 2"]:
    """Transform landmarks, in pixels of crops of `size`, as `augment_frames` transforms the frames."""
    flipped = landmarks[:, :, list(MIRRORED)] * np.array([-1, 1], np.float32) + np.array([size - 1, 0], np.float32)
    chosen = np.where(draws.flip[:, None, None, None], flipped, landmarks)
    middle = (size - 1) / 2
    turned = np.einsum("bfij,bfpj->bfpi", draws.linear, chosen - middle)
    moved: np.ndarray = (turned + middle + size * draws.shift[:, :, None]).astype(np.float32)
    return moved


def augment_frames(
    frames: Float[Tensor, "batch frames 3 h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames 3 h w"]:
    """Augment frames in [-1, 1]; the border is padded by reflection."""
    return _change_colours(_transform(frames, draws), draws)


def augment_mattes(
    mattes: Float[Tensor, "batch h w"], frames: Int[np.ndarray, "batch"], draws: AugmentationDraws
) -> Float[Tensor, "batch h w"]:
    """Transform mattes of one frame per episode (`frames`) as `augment_frames` transforms that frame."""
    rows, columns = np.arange(len(frames))[:, None], frames[:, None]
    angle, scale, shift = (each[rows, columns] for each in (draws.angle, draws.scale, draws.shift))
    return _transform(mattes[:, None, None], replace(draws, angle=angle, scale=scale, shift=shift))[:, 0, 0]


def _transform(
    frames: Float[Tensor, "batch frames channels h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames channels h w"]:
    flip = send(draws.flip, frames.device)[:, None, None, None, None]
    frames = torch.where(flip, frames.flip(-1), frames)
    if (draws.scale == 1).all() and not draws.angle.any() and not draws.shift.any():
        return frames
    # Output -> input coordinates, both in [-1, 1] across the edges.
    back = np.linalg.inv(draws.linear)
    offset = -np.einsum("bfij,bfj->bfi", back, 2 * draws.shift)
    theta = np.concatenate([back, offset[..., None]], axis=3).reshape(-1, 2, 3)
    single = frames.flatten(0, 1)
    grid = F.affine_grid(send(theta, frames.device).to(frames.dtype), [*single.shape], align_corners=False)
    moved: Tensor = F.grid_sample(single, grid, padding_mode="reflection", align_corners=False)
    return moved.view(frames.shape)


def _change_colours(
    frames: Float[Tensor, "batch frames 3 h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames 3 h w"]:
    def per_episode(values: Float[np.ndarray, "batch"]) -> Tensor:
        return send(values, frames.device).to(frames.dtype)[:, None, None, None, None]

    if (draws.saturation == 1).all() and (draws.contrast == 1).all() and not draws.brightness.any():
        return frames
    luma = send(torch.tensor(_LUMA, dtype=frames.dtype), frames.device).view(3, 1, 1)
    grey = (frames * luma).sum(dim=2, keepdim=True)
    coloured = grey + per_episode(draws.saturation) * (frames - grey)
    return (per_episode(draws.contrast) * coloured + per_episode(draws.brightness)).clamp(-1, 1)
