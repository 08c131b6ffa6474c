"""Augmentation of episodes: mirrored, in other light and colours, a little turned, scaled and shifted.

Off by default: the paper has none. All draws but the camera's are of an episode, never of a frame. The shots tell the
embedder who the person is and the generator what surrounds them, so that a shot in another light, or beside another
background, than its target would ask the networks for what nothing shows them. Draws are a pure function of the seed
and the episode's number in the run: a resume and any number of workers see the same pictures.
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

_STREAM = 3  # of random numbers; episodes have 0 and 1, the order of shards 2
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG has it


@dataclass(frozen=True)
class AugmentationDraws:
    """What happens to each episode of a batch."""

    flip: Bool[np.ndarray, "batch"]
    brightness: Float[np.ndarray, "batch"]
    """Added to pixels in [-1, 1]."""
    contrast: Float[np.ndarray, "batch"]
    """Factor of the distance to mid-grey; 1 is none."""
    saturation: Float[np.ndarray, "batch"]
    """Factor of the distance to the pixel's own grey."""
    angle: Float[np.ndarray, "batch frames"]
    """Radians, clockwise on the screen."""
    scale: Float[np.ndarray, "batch frames"]
    shift: Float[np.ndarray, "batch frames 2"]
    """Right and down, in sides of the picture."""

    @property
    def linear(self) -> Float[np.ndarray, "batch frames 2 2"]:
        """Turning and scaling about the picture's middle."""
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def draw_augmentation(
    augmentation: Augmentation, seed: int, episodes: Sequence[int], num_frames: int
) -> AugmentationDraws | None:
    """What happens to the frames of episodes of these numbers; None where nothing ever does.

    Changes of one kind do not depend on whether the others are on.
    """
    if augmentation == Augmentation():
        return None
    chances = [np.random.default_rng((seed, _STREAM, episode)) for episode in episodes]
    flip, brightness, contrast, saturation, angle, scale, right, down = np.stack(
        [chance.uniform(-1, 1, 8) for chance in chances], axis=1
    )
    # Half of the cameras stand, and most of the others nearly do.
    unrest = augmentation.camera * np.stack([max(chance.uniform(-1, 1), 0) for chance in chances])[:, None] ** 2
    nearer, turn, *aside = np.moveaxis(np.stack([chance.uniform(-1, 1, (num_frames, 4)) for chance in chances]), 2, 0)
    colour, affine = augmentation.colour, augmentation.affine
    return AugmentationDraws(
        flip=(flip < 0) & augmentation.flip,
        brightness=colour * brightness,
        contrast=1 + colour * contrast,
        saturation=1 + colour * saturation,
        angle=affine * angle[:, None] + unrest / 4 * turn,
        scale=(1 + affine * scale[:, None]) * np.exp(unrest * nearer),
        shift=affine * np.stack([right, down], -1)[:, None] + unrest[..., None] / 3 * np.stack(aside, -1),
    )


def augment_landmarks(
    landmarks: Float[np.ndarray, "batch frames 68 2"], draws: AugmentationDraws, size: int
) -> Float[np.ndarray, "batch frames 68 2"]:
    """Landmarks, in pixels of crops of `size`, where `augment_frames` takes what they mark."""
    flipped = landmarks[:, :, list(MIRRORED)] * np.array([-1, 1], np.float32) + np.array([size - 1, 0], np.float32)
    chosen = np.where(draws.flip[:, None, None, None], flipped, landmarks)
    middle = (size - 1) / 2
    turned = np.einsum("bfij,bfpj->bfpi", draws.linear, chosen - middle)
    moved: np.ndarray = (turned + middle + size * draws.shift[:, :, None]).astype(np.float32)
    return moved


def augment_frames(
    frames: Float[Tensor, "batch frames 3 h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames 3 h w"]:
    """Frames in [-1, 1], changed; what comes in over the border is the picture's reflection."""
    return _recoloured(_moved(frames, draws), draws)


def augment_mattes(
    mattes: Float[Tensor, "batch h w"], frames: Int[np.ndarray, "batch"], draws: AugmentationDraws
) -> Float[Tensor, "batch h w"]:
    """Mattes of one frame of each episode, where `augment_frames` takes what they cover."""
    rows, columns = np.arange(len(frames))[:, None], frames[:, None]
    angle, scale, shift = (each[rows, columns] for each in (draws.angle, draws.scale, draws.shift))
    return _moved(mattes[:, None, None], replace(draws, angle=angle, scale=scale, shift=shift))[:, 0, 0]


def _moved(
    frames: Float[Tensor, "batch frames channels h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames channels h w"]:
    flip = torch.from_numpy(draws.flip).to(frames.device)[:, None, None, None, None]
    frames = torch.where(flip, frames.flip(-1), frames)
    if (draws.scale == 1).all() and not draws.angle.any() and not draws.shift.any():
        return frames
    # Where a pixel of the new picture lies in the old one, both from -1 to 1 across the edges.
    back = np.linalg.inv(draws.linear)
    offset = -np.einsum("bfij,bfj->bfi", back, 2 * draws.shift)
    theta = np.concatenate([back, offset[..., None]], axis=3).reshape(-1, 2, 3)
    single = frames.flatten(0, 1)
    grid = F.affine_grid(torch.from_numpy(theta).to(frames.device, frames.dtype), [*single.shape], align_corners=False)
    moved: Tensor = F.grid_sample(single, grid, padding_mode="reflection", align_corners=False)
    return moved.view(frames.shape)


def _recoloured(
    frames: Float[Tensor, "batch frames 3 h w"], draws: AugmentationDraws
) -> Float[Tensor, "batch frames 3 h w"]:
    def per_episode(values: Float[np.ndarray, "batch"]) -> Tensor:
        return torch.from_numpy(values).to(frames.device, frames.dtype)[:, None, None, None, None]

    if (draws.saturation == 1).all() and (draws.contrast == 1).all() and not draws.brightness.any():
        return frames
    luma = torch.tensor(_LUMA, device=frames.device, dtype=frames.dtype).view(3, 1, 1)
    grey = (frames * luma).sum(dim=2, keepdim=True)
    coloured = grey + per_episode(draws.saturation) * (frames - grey)
    return (per_episode(draws.contrast) * coloured + per_episode(draws.brightness)).clamp(-1, 1)
