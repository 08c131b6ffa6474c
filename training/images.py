"""Conversion between arrays (RGB and mattes in 0..255) and tensors (RGB in [-1, 1], mattes in [0, 1]); resizing."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from training.device import send


def to_tensor(
    images: UInt8[np.ndarray, "batch h w 3"] | UInt8[Tensor, "batch h w 3"], device: torch.device
) -> Float[Tensor, "batch 3 h w"]:
    """Convert RGB 0..255, on any device, to [-1, 1] on `device`."""
    planes = send(images, device).permute(0, 3, 1, 2)
    return planes.float().div_(127.5).sub_(1)


def matte_tensor(mattes: UInt8[np.ndarray, "batch h w"], device: torch.device) -> Float[Tensor, "batch h w"]:
    """Convert mattes from 0..255 to [0, 1]."""
    return send(mattes, device).float() / 255


def to_images(frames: Float[Tensor, "batch 3 h w"]) -> UInt8[np.ndarray, "batch h w 3"]:
    """Convert frames in [-1, 1] to RGB 0..255."""
    scaled = frames.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    images: np.ndarray = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images


def crop_batch(
    images: UInt8[Tensor, "batch height width 3"], affines: Float64[np.ndarray, "batch 2 3"], size: int
) -> UInt8[Tensor, "batch size size 3"]:
    """Crop a batch of images on their device; the batched equivalent of `pipelines.faces.crop`.

    Enlarging is bicubic; shrinking averages several bilinear samples per pixel. Edges are replicated outside.

    Args:
        affines: crop -> image, one scale for both axes and no rotation.
    """
    height, width = images.shape[1:3]
    sides = np.array([width, height])
    scale = affines[:, 0, 0]
    # Crop -> image, both normalised to [-1, 1] across their edges; pixel centres are integers.
    theta = np.zeros((len(images), 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = scale * size / width, scale * size / height
    theta[:, :, 2] = (scale[:, None] * (size - 1) / 2 + affines[:, :, 2] + 0.5) * 2 / sides - 1
    supersampling = max(int(np.ceil(scale.max() - 1e-6)), 1)
    side = size * supersampling
    transforms = torch.from_numpy(theta).to(images.device, torch.float32)
    grid = F.affine_grid(transforms, [len(images), 3, side, side], align_corners=False)
    frames = images.permute(0, 3, 1, 2).float()
    mode = "bilinear" if supersampling > 1 else "bicubic"
    fine = F.grid_sample(frames, grid, mode=mode, padding_mode="border", align_corners=False)
    cropped = F.avg_pool2d(fine, supersampling) if supersampling > 1 else fine
    return cropped.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def resize_square(image: UInt8[np.ndarray, "side side 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Resize a square image: area averaging to shrink, bicubic to enlarge."""
    if len(image) == size:
        return image
    interpolation = cv2.INTER_AREA if size < len(image) else cv2.INTER_CUBIC
    resized: np.ndarray = cv2.resize(image, (size, size), interpolation=interpolation)
    return resized


def resize_points(
    points: Float[np.ndarray, "*batch 68 2"], ratio: float | Float[np.ndarray, "2"]
) -> Float[np.ndarray, "*batch 68 2"]:
    """Scale landmarks along with their image. Pixel centres are integers, so x + 0.5 scales by `ratio`."""
    resized: np.ndarray = ((points + 0.5) * ratio - 0.5).astype(np.float32)
    return resized


def smooth(x: Float[Tensor, "batch channels h w"], times: int) -> Float[Tensor, "batch channels h w"]:
    """Apply a 3x3 box filter `times` times; the border is replicated."""
    for _ in range(times):
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x


def smooth_step(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return 0 up to 0, 1 from 1 on, and a smooth step in between."""
    share = np.clip(x, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))
