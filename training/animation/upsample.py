"""Bring network output to the portrait's resolution: guided upsampling and feathered edges."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.images import smooth_step

_FEATHER = 0.06  # width of the transition from moving to static parts, relative to the square's side
GUIDE_EPS = 2e-3  # regularisation of the guided filter


def enlarge(frame: Float[Tensor, "batch 3 h w"], size: int) -> Float[Tensor, "batch 3 size size"]:
    """Upsample a frame in [-1, 1] by bicubic interpolation, for the published form, which has no finer guide."""
    return F.interpolate(frame, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def apply_correction(
    fine: Float[Tensor, "batch 3 H W"],
    frame: Float[Tensor, "batch 3 h w"],
    moved: Float[Tensor, "batch 3 h w"],
    border: int = 0,
) -> Float[Tensor, "batch 3 H W"]:
    """Add the network's change of the moved shot (`frame - moved`) to the full-resolution warp `fine`; all in [-1, 1].

    The change fades out towards the border of the networks' crop. `fine` extends beyond that crop by `border` pixels of
    the network's size on each side.
    """
    guide = F.pad(moved, [border] * 4, mode="replicate")
    return (fine + guided_upsample(fade_to_border(frame - moved, border), guide, fine)).clamp(-1, 1)


def fade_to_border(change: Float[Tensor, "batch channels h w"], border: int) -> Float[Tensor, "batch channels h2 w2"]:
    """Fade a change to zero at the border of its crop, and pad it with `border` zeros on each side."""
    fade = torch.from_numpy(feather(change.shape[-1])).to(change.device)
    return F.pad(fade * change, [border] * 4)


def guided_upsample(
    values: Float[Tensor, "batch 3 h w"], guide: Float[Tensor, "batch 3 h w"], fine: Float[Tensor, "batch 3 H W"]
) -> Float[Tensor, "batch 3 H W"]:
    """Upsample along the edges of a finer image: fast guided filter (He and Sun, arXiv 1505.00996).

    `values` is fitted as `a * guide + b` in small windows. Where the guide is flat, `a` vanishes and the mean of
    `values` is used, so that the finer image keeps its grain.
    """

    a, b = (
        F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        for x in guided_coefficients(values, guide)
    )
    return a * fine + b


def guided_coefficients(
    values: Float[Tensor, "batch 3 h w"], guide: Float[Tensor, "batch 3 h w"]
) -> tuple[Float[Tensor, "batch 3 h w"], Float[Tensor, "batch 3 h w"]]:
    """Return a and b of the guided filter, to be upsampled bilinearly and applied as `a * fine + b`."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values) - mean_guide * mean_values
    a = covariance / (mean(guide * guide) - mean_guide.square() + GUIDE_EPS)
    # The correction may remove the guide's structure, but not invert or amplify it.
    a = a.clamp(-1, 1)
    b = mean_values - a * mean_guide
    return mean(a), mean(b)


def feather(side: int) -> Float[np.ndarray, "side side"]:
    """Return a mask that is 1 inside and falls smoothly to 0 at the border."""
    depth = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    ramp = smooth_step(depth / (_FEATHER * side))
    return np.outer(ramp, ramp).astype(np.float32)
