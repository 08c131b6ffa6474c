"""A shot: a picture, how much of each pixel is a person, and what may stand behind.

Seven channels: RGB in [-1, 1], a matte in [0, 1], and the background, RGB again, guessed where the person hides it.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.models.layers import smoothed

# Outlines are widened and softened on pictures of this size: hair at them is in no matte, and must not stay behind.
_OUTLINE_AT = 96
_SOFTENINGS = 2
_GRAIN_AT = 48  # what is seen on pictures of this size is no grain
_LEAST_KNOWN = 1e-3  # share of a picture from which the rest is guessed


def make_shot(frames: Float[Tensor, "batch 3 h w"], mattes: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch 7 h w"]:
    """A picture and its matte, with the background filled in from around the person: smooth colours, no grain."""
    matte = mattes[:, None]
    known = (1 - torch.maximum(matte, _widened(matte))).square()
    background = torch.where(known.mean(dim=(2, 3), keepdim=True) < _LEAST_KNOWN, frames, _fill(frames, known))
    return torch.cat([frames, matte, background], dim=1)


def behind(
    shot: Float[Tensor, "batch 7 h w"],
    bent_frame: Float[Tensor, "batch 3 h w"],
    bent_matte: Float[Tensor, "batch 1 h w"],
) -> Float[Tensor, "batch 3 h w"]:
    """What is seen around a person who moved: the shot as it stands, and the background where the person was, with the
    grain of what the bent frame shows there."""
    frame, matte, background = shot.split([3, 1, 3], dim=1)
    # Where half a pixel was somebody and half still is, the other half shows what it did.
    bare = (matte - bent_matte).clamp_min(0) / (1 - bent_matte).clamp_min(1e-6)
    left = torch.maximum(bare, _widened(matte) - _widened(bent_matte))
    seen: Tensor = frame + left * (background + _grain(bent_frame, 1 - bent_matte) - frame)
    return seen


def _grain(frame: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """What is finer in a picture than the mean of the known around each place."""
    mean, _ = _mean_of_known(frame, known, min(_GRAIN_AT, frame.shape[-1]))
    return known * (frame - _enlarged(mean, frame))


def _widened(matte: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 1 h w"]:
    size = min(_OUTLINE_AT, matte.shape[-1])
    coarse = F.max_pool2d(F.adaptive_avg_pool2d(matte, size), 3, stride=1, padding=1)
    return _enlarged(smoothed(coarse, _SOFTENINGS), matte)


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
