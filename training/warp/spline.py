"""Thin-plate splines (Bookstein 1989) as sampling grids, and sampling of images at a grid.

A spline maps *target* positions to *source* positions, so that every target pixel is sampled once and none is left
empty.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

_CACHED_PIXELS = 512  # whose kernels for 500 points fill a megabyte
_MIN_SQUARED = 1e-12  # below it a squared distance is taken for 0, whose logarithm is not finite


def sampling_grid(
    source: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    size: int,
    *,
    extent: float = 1.0,
    smoothing: Float[Tensor, " points"],
) -> Float[Tensor, "batch size size 2"]:
    """Return the sampling position in the source of each target pixel, both in [-1, 1] (`align_corners=False`).

    `size` pixels span [-extent, extent]: the crop, or with `REACH` all that moves. The spline is solved for
    displacements in float32, so that a target equal to its source gives exactly the identity.

    Args:
        smoothing: regularisation per point; with 0 the spline passes through the point.
    """
    source, target = source.float(), target.float()
    batch, num_points, _ = target.shape
    ones = target.new_ones(batch, num_points, 1)
    polynomial = torch.cat([ones, target], dim=2)
    kernel = _kernel(torch.cdist(target, target, compute_mode="donot_use_mm_for_euclid_dist"))
    kernel = kernel + torch.diag(smoothing)
    system = torch.cat(
        [
            torch.cat([kernel, polynomial], dim=2),
            torch.cat([polynomial.transpose(1, 2), target.new_zeros(batch, 3, 3)], dim=2),
        ],
        dim=1,
    )
    wanted = torch.cat([source - target, target.new_zeros(batch, 3, 2)], dim=1)
    weights = _solve(system, wanted)
    grid = identity_grid(size, target.device) * extent
    pixels = grid.reshape(-1, 2)
    affine = weights[:, None, num_points] + pixels @ weights[:, num_points + 1 :]
    displacement = _sum_of_kernels(pixels, target, weights[:, :num_points]) + affine
    sampled: Tensor = grid + displacement.view(batch, size, size, 2)
    return sampled


def _sum_of_kernels(
    pixels: Float[Tensor, "pixels 2"], points: Float[Tensor, "batch points 2"], weights: Float[Tensor, "batch points 2"]
) -> Float[Tensor, "batch pixels 2"]:
    """Return the sum over points of weight times r^2 log r, with r the distance of pixel and point.

    With d = r^2, r^2 log r is d log d / 2, and d is one product of matrices: |p|^2 - 2 p q + |q|^2.
    """
    ours = torch.cat([pixels, pixels.square().sum(1, keepdim=True), torch.ones_like(pixels[:, :1])], dim=1)
    theirs = torch.cat([-2 * points, torch.ones_like(points[..., :1]), points.square().sum(2, keepdim=True)], dim=2)
    halves = weights / 2
    if pixels.device.type == "cpu":
        total = [_sum_on_cpu(ours.numpy(), *each) for each in zip(theirs.numpy(), halves.numpy(), strict=True)]
        return torch.from_numpy(np.stack(total))
    squared = (ours @ theirs.transpose(1, 2)).clamp_min(_MIN_SQUARED)
    return (squared * squared.log()) @ halves


def _sum_on_cpu(
    pixels: Float32[np.ndarray, "pixels 4"],
    points: Float32[np.ndarray, "points 4"],
    weights: Float32[np.ndarray, "points 2"],
) -> Float32[np.ndarray, "pixels 2"]:
    """Return the product of pixels and points, each times its logarithm, times the weights.

    Parts of a megabyte stay in the cache, OpenCV's logarithm takes a third of the time of torch's, and numpy's product
    with two columns a fifth: 3 ms for 5,184 pixels and 422 points instead of 45.
    """
    total = np.empty((len(pixels), 2), np.float32)
    for first in range(0, len(pixels), _CACHED_PIXELS):
        part = slice(first, first + _CACHED_PIXELS)
        squared = np.maximum(pixels[part] @ points.T, np.float32(_MIN_SQUARED))
        squared *= cv2.log(squared)
        total[part] = squared @ weights
    return total


def _solve(
    systems: Float[Tensor, "batch size size"], wanted: Float[Tensor, "batch size 2"]
) -> Float[Tensor, "batch size 2"]:
    """Solve linear systems, on a CPU one by one: after `torch.set_num_threads(2)`, MKL's batched factorisation of 200
    and more equations returns invalid pivots, which torch rejects (torch 2.13, oneMKL 2024.2)."""
    if systems.device.type != "cpu":
        # Unchecked: checking waits for the device. A singular system gives numbers that are not finite.
        solved: Tensor = torch.linalg.solve_ex(systems, wanted).result
        return solved
    return torch.stack([torch.linalg.solve(*each) for each in zip(systems, wanted, strict=True)])


def _kernel(distance: Tensor) -> Tensor:
    """Return r^2 log r, 0 at 0."""
    return distance.square() * torch.log(distance.clamp_min(1e-6))


def identity_grid(size: int, device: torch.device) -> Float[Tensor, "size size 2"]:
    """Return the grid that samples every pixel from itself."""
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def displacement(grid: Float[Tensor, "batch h w 2"], extent: float = 1.0) -> Float[Tensor, "batch h w 2"]:
    """Return a grid over [-extent, extent] minus the identity."""
    return grid - extent * identity_grid(grid.shape[1], grid.device)


def warp(
    image: Float[Tensor, "batch channels h w"],
    grid: Float[Tensor, "batch h2 w2 2"],
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "batch channels h2 w2"]:
    """Sample an image at a grid; the border is replicated. `bicubic` is sharper but may overshoot."""
    return F.grid_sample(image, grid.to(image.dtype), mode=mode, padding_mode="border", align_corners=False)
