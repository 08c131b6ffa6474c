"""Network output at the source image's resolution: guided upsampling and feathered edges."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_FEATHER = 0.06  # of a square's side: where what moves fades into what does not


_GUIDE_EPS = 2e-3


def enlarge(frame: Float[Tensor, "batch 3 h w"], size: int) -> Float[Tensor, "batch 3 size size"]:
    """A picture of the published form, which has no finer one to start from; in [-1, 1]."""
    return F.interpolate(frame, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def apply_correction(
    fine: Float[Tensor, "batch 3 H W"],
    frame: Float[Tensor, "batch 3 h w"],
    moved: Float[Tensor, "batch 3 h w"],
    border: int = 0,
) -> Float[Tensor, "batch 3 H W"]:
    """A fine picture with what the network paints over the coarse one, all in [-1, 1].

    What it adds fades out towards the border of the crop it knows, beyond which `fine` shows as many coarse pixels
    more as `border` says.
    """
    guide = F.pad(moved, [border] * 4, mode="replicate")
    return (fine + guided_upsample(fade_to_border(frame - moved, border), guide, fine)).clamp(-1, 1)


def fade_to_border(change: Float[Tensor, "batch channels h w"], border: int) -> Float[Tensor, "batch channels h2 w2"]:
    """What the network changes, falling to nothing at the border of its crop, and nothing in `border` pixels around."""
    fade = torch.from_numpy(feather(change.shape[-1])).to(change.device)
    return F.pad(fade * change, [border] * 4)


def guided_upsample(
    values: Float[Tensor, "batch 3 h w"], guide: Float[Tensor, "batch 3 h w"], fine: Float[Tensor, "batch 3 H W"]
) -> Float[Tensor, "batch 3 H W"]:
    """Upsample along the edges of a finer picture: fast guided filter (He and Sun, arXiv 1505.00996).

    `values` is fitted as `a * guide + b` in small windows; where the guide is flat, `a` vanishes and the plain mean of
    `values` is added, so that the finer picture keeps its grain.
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values) - mean_guide * mean_values
    a = covariance / (mean(guide * guide) - mean_guide.square() + _GUIDE_EPS)
    # Against the grain at most: the correction may remove the guide's structure, not invert or amplify it.
    a = a.clamp(-1, 1)
    b = mean_values - a * mean_guide
    size = fine.shape[-2:]
    a, b = (F.interpolate(mean(x), size=size, mode="bilinear", align_corners=False) for x in (a, b))
    return a * fine + b


def feather(side: int) -> Float[np.ndarray, "side side"]:
    """One inside, falling to zero at the border."""
    depth = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    ramp = np.clip(depth / (_FEATHER * side), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)
