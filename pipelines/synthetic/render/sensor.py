"""Lens and sensor: rendered linear light -> 8-bit sRGB pictures with blur, vignette, tone curve and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional

from pipelines.synthetic.graphics import kernels


def develop(
    light: Float32[Tensor, "frames side side 3"],
    sensor: Float32[Tensor, "frames 6"],
    size: int,
    seeds: Sequence[tuple[int, ...]],
) -> UInt8[Tensor, "frames size size 3"]:
    """Turn linear light into 8-bit sRGB pictures of `size` pixels.

    Args:
        sensor: exposure, contrast, saturation, blur, grain and vignette of each frame, as `Scene` has them.
        seeds: seed of each frame's noise.
    """
    device = light.device
    exposure, contrast, saturation, blur, grain, vignette = sensor[:, :, None, None, None].unbind(1)
    picture = _downsample(light, size).mul_(0.7 * exposure)
    picture = _blur(picture, blur[:, 0, 0, 0] * size / 256)
    axis = torch.linspace(-1, 1, size, device=device)
    picture.mul_(1 - vignette * 0.5 * (axis[:, None] ** 2 + axis[None] ** 2))
    # A filmic tone curve (Narkowicz 2015), then gamma 2.2. In place, because a batch exceeds the processor's cache.
    below = (2.43 * picture).add_(0.59).mul_(picture).add_(0.14)
    picture.mul_((2.51 * picture).add_(0.03)).div_(below).clamp_(0, 1).pow_(1 / 2.2)
    picture.sub_(0.5).mul_(contrast).add_(0.5)
    red, green, blue = picture.unbind(dim=1)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    picture.sub_(grey).mul_(saturation).add_(grey)
    noise = [np.random.default_rng(seed).standard_normal((1, size, size), dtype=np.float32) for seed in seeds]
    picture.add_(torch.from_numpy(np.stack(noise)).to(device).mul_(grain))
    return picture.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _downsample(light: Float32[Tensor, "frames side side 3"], size: int) -> Float32[Tensor, "frames 3 size size"]:
    """Average over the area of each pixel of the result."""
    frames, side, _, _ = light.shape
    number = torch.arange(size, device=light.device)
    starts, ends = number * side // size, ((number + 1) * side + size - 1) // size
    picture = torch.empty(frames, 3, size, size, device=light.device)
    kernels.launch(
        kernels.area_downsample, (frames, size), light.reshape(-1, 3), starts, ends, side, picture.view(-1, size)
    )
    return picture


def _blur(picture: Float32[Tensor, "frames 3 size size"], sigma: Float32[Tensor, " frames"]) -> Tensor:
    """Blur with a Gaussian; `sigma` in pixels, one per frame."""
    reach = 2
    offset = torch.arange(-reach, reach + 1, device=picture.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma.clamp(min=0.05)[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    frames, _, height, width = picture.shape
    flat = functional.pad(picture.reshape(1, frames * 3, height, width), (reach,) * 4, mode="replicate")
    flat = functional.conv2d(flat, kernel[:, None, None], groups=frames * 3)
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=frames * 3)
    return flat.reshape(picture.shape)
