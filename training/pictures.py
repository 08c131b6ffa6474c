"""RGB 0..255 in arrays, [-1, 1] in tensors."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_tensor(images: UInt8[np.ndarray, "batch h w 3"], device: torch.device) -> Float[Tensor, "batch 3 h w"]:
    """RGB 0..255 -> [-1, 1]."""
    moved = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return moved.float().div_(127.5).sub_(1)


def to_images(frames: Float[Tensor, "batch 3 h w"]) -> UInt8[np.ndarray, "batch h w 3"]:
    """[-1, 1] -> RGB 0..255."""
    scaled = frames.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    images: np.ndarray = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images


def resize_points(
    points: Float[np.ndarray, "*batch 68 2"], ratio: float | Float[np.ndarray, "2"]
) -> Float[np.ndarray, "*batch 68 2"]:
    """Landmarks of a picture resized by `ratio`: pixel centres are integers, so x + 0.5 scales and x does not."""
    resized: np.ndarray = ((points + 0.5) * ratio - 0.5).astype(np.float32)
    return resized
