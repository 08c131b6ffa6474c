"""Shots for warping: a frame, a matte of the person, and an inpainted background.

Seven channels: RGB in [-1, 1], the matte in [0, 1], and the background's RGB, inpainted where the person hides it.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from training.images import matte_tensor, smooth, to_tensor

# Mattes are dilated and blurred at this size in pixels: mattes lack hair at the outline, which must not stay behind.
DILATION_SIZE = 96
NUM_BLURS = 2
# Grain is the detail finer than three pixels, or than a frame of 48 pixels shows: what is coarser are folds and leaves,
# whose mirror images follow the person's outline as lines.
_GRAIN_CELL, _MIN_GRAIN_SIZE = 3, 48
_MAX_GRAIN = 1.5  # standard deviations to which grain is limited: stronger detail is edges
_MIN_KNOWN = 1e-3  # share of visible background below which it is not inpainted


def make_shot(frames: Float[Tensor, "batch 3 h w"], mattes: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch 7 h w"]:
    """Build shots from frames and mattes, inpainting the background with smooth colours and mirrored grain."""
    matte = mattes[:, None]
    known = (1 - torch.maximum(matte, _dilate(matte))).square()
    # The background's grain stays in place when the person moves.
    filled = (_fill(frames, known) + _mirrored(_grain(frames, known), known)).clamp(-1, 1)
    background = torch.where(known.mean(dim=(2, 3), keepdim=True) < _MIN_KNOWN, frames, filled)
    return torch.cat([frames, matte, background], dim=1)


def uncovered_background(
    shot: Float[Tensor, "batch 7 h w"], warped_matte: Float[Tensor, "batch 1 h w"]
) -> Float[Tensor, "batch 3 h w"]:
    """Return the surroundings of a person who moved: the shot's frame, with the background where the person was."""
    frame, matte, background = shot.split([3, 1, 3], dim=1)
    # Share of the pixel's part that the warped person leaves visible in which the person was before.
    bare = (matte - warped_matte).clamp_min(0) / (1 - warped_matte).clamp_min(1e-6)
    uncovered = torch.maximum(bare, _dilate(matte) - _dilate(warped_matte))
    surroundings: Tensor = frame + uncovered * (background - frame)
    return surroundings


def _grain(frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Return the difference of frames from the local mean of their known pixels, softly limited."""
    side = frames.shape[-1]
    mean, _ = _mean_of_known(frames, known, min(max(side // _GRAIN_CELL, _MIN_GRAIN_SIZE), side))
    grain = frames - _enlarge(mean, frames)
    power, share = (x.mean(dim=(1, 2, 3), keepdim=True) for x in (known * grain.square(), known))
    limit = _MAX_GRAIN * (power / share.clamp_min(1e-6)).clamp_min(1e-12).sqrt()
    return limit * torch.tanh(grain / limit)


def _mirrored(
    picture: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]
) -> Float[Tensor, "batch 3 h w"]:
    """Fill unknown pixels by mirroring their row at the nearest known pixels left and right, the nearer weighing more.

    Known pixels are zero in the result, and so are those whose mirror images both lie outside the frame.
    """
    width = picture.shape[-1]
    positions = torch.arange(width, device=picture.device).expand(known.shape)
    left = torch.where(known > 0.5, positions, -width).cummax(dim=-1).values
    right = torch.where(known > 0.5, positions, 2 * width).flip(-1).cummin(dim=-1).values.flip(-1)
    total, weights = torch.zeros_like(picture), torch.zeros_like(known)
    for end in (left, right):
        mirrored = 2 * end - positions
        inside = mirrored.clamp(0, width - 1)
        weight = (mirrored == inside) * known.gather(-1, inside) / (1 + (positions - end).abs()).square()
        total = total + weight * picture.gather(-1, inside.expand_as(picture))
        weights = weights + weight
    return (1 - known) * total / weights.clamp_min(1e-12)


def _dilate(matte: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 1 h w"]:
    size = min(DILATION_SIZE, matte.shape[-1])
    coarse = F.max_pool2d(F.adaptive_avg_pool2d(matte, size), 3, stride=1, padding=1)
    return _enlarge(smooth(coarse, NUM_BLURS), matte)


def _fill(frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Fill unknown pixels by pull-push (Gortler et al., The Lumigraph, 1996): from means of known pixels over larger
    and larger squares."""
    if frames.shape[-1] == 1:
        return frames
    means, share = _mean_of_known(frames, known, frames.shape[-1] // 2)
    coarse = _enlarge(_fill(means, (2 * share).clamp_max(1)), frames)
    return coarse + known * (frames - coarse)


def _mean_of_known(
    frames: Float[Tensor, "batch 3 h w"], known: Float[Tensor, "batch 1 h w"], size: int
) -> tuple[Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 1 size size"]]:
    """Downsample the known pixels; return the result and the share of each of its pixels that is known."""
    share = F.adaptive_avg_pool2d(known, size)
    return F.adaptive_avg_pool2d(frames * known, size) / share.clamp_min(1e-6), share


def _enlarge(small: Float[Tensor, "..."], like: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "..."]:
    return F.interpolate(small, size=like.shape[-2:], mode="bilinear", align_corners=False)


def to_shots(
    images: UInt8[np.ndarray, "batch h w 3"], mattes: UInt8[np.ndarray, "batch h w"], device: torch.device
) -> Float[Tensor, "batch 7 h w"]:
    """Build shots from frames and mattes in 0..255."""
    return make_shot(to_tensor(images, device), matte_tensor(mattes, device))
