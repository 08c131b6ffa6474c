"""Smooth noise for the textures of skin, hair, cloth and backgrounds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional


def smooth_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int], octaves: int = 1
) -> Float32[Tensor, "height width"]:
    """Return smooth noise with mean 0 and standard deviation about 1.

    Args:
        cells: independent values along height and width; each further octave doubles them at half the amplitude.
    """
    height, width = size
    total = torch.zeros(size)
    for octave in range(octaves):
        grid = [min(most, max(2, round(number * 2**octave))) for number, most in zip(cells, size, strict=True)]
        values = torch.from_numpy(rng.standard_normal((1, 1, *grid), dtype=np.float32))
        scaled = functional.interpolate(values, size=(height, width), mode="bicubic", align_corners=False)
        total += scaled[0, 0] * 0.5**octave
    return total / total.std().clamp(min=1e-6)


def smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    """Hermite step: 0 at `low`, 1 at `high`; `low` may be above `high`."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def to_linear(srgb: Tensor) -> Tensor:
    """Convert sRGB in 0..1 to linear light (gamma 2.2)."""
    return srgb.clamp(min=0) ** 2.2
