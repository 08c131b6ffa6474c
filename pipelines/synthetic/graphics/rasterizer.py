"""A z-buffer rasterizer for CPU and GPU with bit-identical results.

The nearest triangle of a pixel is an atomic integer minimum, so the result does not depend on the order of execution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipelines.synthetic.graphics import kernels


@dataclass(frozen=True)
class Fragments:
    """Covered pixels, in order of frame, row and column."""

    pixels: Int64[Tensor, " fragments"]
    """(frame * height + row) * width + column."""
    triangles: Int64[Tensor, " fragments"]
    weights: Float32[Tensor, "fragments 3"]
    """Barycentric weights of the triangle's corners, corrected for perspective."""
    inverse_depth: Float32[Tensor, " fragments"]

    def select(self, chosen: Int64[Tensor, " chosen"]) -> Fragments:
        """Return the fragments at these indices."""
        return Fragments(*(value[chosen] for value in vars(self).values()))


def rasterize(
    corners: Float32[Tensor, "frames vertices 3"],
    faces: Int64[Tensor, "triangles 3"],
    height: int,
    width: int,
    *,
    two_sided: bool = False,
) -> Fragments:
    """Find the nearest triangle at each pixel centre.

    Args:
        corners: x right and y down in pixels (the first pixel's centre is at 0.5), and 1 / depth, in (0, 1].
        two_sided: also draw back faces (clockwise in the picture).
    """
    corners, faces = corners.contiguous(), faces.contiguous()
    frames, device = len(corners), corners.device
    nearest = torch.full((frames * height * width,), kernels.NO_TRIANGLE, device=device)
    kernels.launch(kernels.z_buffer, (frames, len(faces)), corners, faces, two_sided, height, width, nearest)
    pixels = (nearest != kernels.NO_TRIANGLE).nonzero()[:, 0]
    triangles = nearest[pixels] & 0xFFFFFFFF
    weights = torch.empty(len(pixels), 3, device=device)
    inverse_depth = torch.empty(len(pixels), device=device)
    kernels.launch(
        kernels.barycentric_weights,
        len(pixels),
        pixels,
        triangles,
        corners,
        faces,
        height,
        width,
        weights,
        inverse_depth,
    )
    return Fragments(pixels, triangles, weights, inverse_depth)


def interpolate(
    found: Fragments,
    faces: Int64[Tensor, "triangles 3"],
    values: Float32[Tensor, "frames vertices channels"],
    pixels_per_frame: int,
) -> Float32[Tensor, "fragments channels"]:
    """Interpolate vertex values at the fragments."""
    result = torch.empty(len(found.pixels), values.shape[2], device=values.device)
    kernels.launch(
        kernels.interpolate,
        len(result),
        found.pixels,
        found.triangles,
        found.weights,
        faces.contiguous(),
        values.contiguous(),
        pixels_per_frame,
        result,
    )
    return result


def sample(
    pictures: Float32[Tensor, "pictures height width channels"],
    rows: Int64[Tensor, " points"],
    u: Float32[Tensor, " points"],
    v: Float32[Tensor, " points"],
) -> Float32[Tensor, "points channels"]:
    """Sample one picture per point bilinearly at (u, v) in 0..1; outside, the edge is repeated."""
    result = torch.empty(len(rows), pictures.shape[3], device=pictures.device)
    kernels.launch(kernels.sample, len(rows), pictures.contiguous(), rows, u.contiguous(), v.contiguous(), result)
    return result
