"""A shot: a picture, how much of each pixel is a person, and what may stand behind.

Seven channels: RGB in [-1, 1], a matte in [0, 1], and the background, RGB again, guessed where the person hides it.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from training.images import matte_tensor, smooth, to_tensor

# Outlines are widened and softened on pictures of this size: hair at them is in no matte, and must not stay behind.
_OUTLINE_AT = 96
_SOFTENINGS = 2
_GRAIN_AT = 48  # what is seen on pictures of this size is no grain
_LOUDEST = 1.5  # deviations of a picture's grain: what is louder are edges, which stand out where they do not belong
_LEAST_KNOWN = 1e-3  # share of a picture from which the rest is guessed


def make_shot(frames: Float[Tensor, "batch 3 h w"], mattes: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch 7 h w"]:
    """A picture and its matte, with the background filled in from around the person: smooth colours, and the grain
    beside them."""
    matte = mattes[:, None]
    known = (1 - torch.maximum(matte, _widened(matte))).square()
    # The grain stands still, whoever moves before it.
    filled = (_fill(frames, known) + _mirrored(_grain(frames, known), known)).clamp(-1, 1)
    background = torch.where(known.mean(dim=(2, 3), keepdim=True) < _LEAST_KNOWN, frames, filled)
    return torch.cat([frames, matte, background], dim=1)


def uncovered_background(
    shot: Float[Tensor, "batch 7 h w"], bent_matte: Float[Tensor, "batch 1 h w"]
) -> Float[Tensor, "batch 3 h w"]:
    """What is seen around a person who moved: the shot as it stands, and the background where the person was."""
    frame, matte, background = shot.split([3, 1, 3], dim=1)
    # Where half a pixel was somebody and half still is, the other half shows what it did.
    bare = (matte - bent_matte).clamp_min(0) / (1 - bent_matte).clamp_min(1e-6)
    left = torch.maximum(bare, _widened(matte) - _widened(bent_matte))
    seen: Tensor = frame + left * (background - frame)
    return seen


def _grain(frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """What is finer in a picture than the mean of the known around each place."""
    mean, _ = _mean_of_known(frames, known, min(_GRAIN_AT, frames.shape[-1]))
    grain = frames - _enlarged(mean, frames)
    power, share = (x.mean(dim=(1, 2, 3), keepdim=True) for x in (known * grain.square(), known))
    loudest = _LOUDEST * (power / share.clamp_min(1e-6)).clamp_min(1e-12).sqrt()
    return loudest * torch.tanh(grain / loudest)


def _mirrored(
    picture: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]
) -> Float[Tensor, "batch 3 h w"]:
    """At places that are not known their mirror images, row by row, about the nearest known places left and right, the
    nearer weighing more; zero where neither has one."""
    width = picture.shape[-1]
    places = torch.arange(width, device=picture.device).expand(known.shape)
    left = torch.where(known > 0.5, places, -width).cummax(dim=-1).values
    right = torch.where(known > 0.5, places, 2 * width).flip(-1).cummin(dim=-1).values.flip(-1)
    total, weights = torch.zeros_like(picture), torch.zeros_like(known)
    for end in (left, right):
        image = 2 * end - places
        there = image.clamp(0, width - 1)
        weight = (image == there) * known.gather(-1, there) / (1 + (places - end).abs()).square()
        total = total + weight * picture.gather(-1, there.expand_as(picture))
        weights = weights + weight
    return (1 - known) * total / weights.clamp_min(1e-12)


def _widened(matte: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 1 h w"]:
    size = min(_OUTLINE_AT, matte.shape[-1])
    coarse = F.max_pool2d(F.adaptive_avg_pool2d(matte, size), 3, stride=1, padding=1)
    return _enlarged(smooth(coarse, _SOFTENINGS), matte)


def _fill(frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Pull and push (Gortler et al., The Lumigraph, 1996): what is not known comes from means of larger and larger
    squares of what is."""
    if frames.shape[-1] == 1:
        return frames
    means, share = _mean_of_known(frames, known, frames.shape[-1] // 2)
    smooth = _enlarged(_fill(means, (2 * share).clamp_max(1)), frames)
    return smooth + known * (frames - smooth)


def _mean_of_known(
    frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"], size: int
) -> tuple[Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 1 size size"]]:
    """A smaller picture, of what is known alone, and the share of each of its pixels that is."""
    share = F.adaptive_avg_pool2d(known, size)
    return F.adaptive_avg_pool2d(frames * known, size) / share.clamp_min(1e-6), share


def _enlarged(small: Float[Tensor, "..."], like: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "..."]:
    return F.interpolate(small, size=like.shape[-2:], mode="bilinear", align_corners=False)


def to_shots(
    images: UInt8[np.ndarray, "batch h w 3"], mattes: UInt8[np.ndarray, "batch h w"], device: torch.device
) -> Float[Tensor, "batch 7 h w"]:
    """Pictures and mattes of 0..255 as a warp takes them."""
    return make_shot(to_tensor(images, device), matte_tensor(mattes, device))
