"""A z-buffer in batched torch: which triangle each pixel of each frame shows, on CPU or GPU, bit for bit the same.

Triangles are sorted into classes by the size of their box; a class tests all its pixels at once. The nearest triangle
wins through an integer minimum, so the order of execution does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

_SIDES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    12,
    14,
    16,
    20,
    24,
    32,
    40,
    48,
    64,
    96,
    128,
    256,
    512,
    1024,
    2048,
)  # pixels of a box, the classes
_PIXELS_AT_ONCE = 1 << 20
_NEAREST = 1 << 30  # steps of depth
_LEAST_AREA = 1e-6  # square pixels, doubled


@dataclass(frozen=True)
class Fragments:
    """The pixels that show something, in order of frame, row and column."""

    pixels: Int64[Tensor, " fragments"]
    """(frame * height + row) * width + column."""
    triangles: Int64[Tensor, " fragments"]
    weights: Float32[Tensor, "fragments 3"]
    """Of the triangle's corners, corrected for perspective."""
    inverse_depth: Float32[Tensor, " fragments"]


def rasterise(
    corners: Float32[Tensor, "frames vertices 3"],
    faces: Int64[Tensor, "triangles 3"],
    height: int,
    width: int,
    *,
    two_sided: bool = False,
) -> Fragments:
    """Find the nearest triangle of each pixel's centre.

    Args:
        corners: x right and y down in pixels (the first pixel's centre is at 0.5), and 1 / depth, in (0, 1].
        two_sided: triangles seen from behind (clockwise in the picture) count too.
    """
    frames = corners.shape[0]
    points = corners[:, faces]  # frames triangles 3 (x, y, 1 / depth)
    x, y = points[..., 0], points[..., 1]
    area = (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0]) - (x[..., 2] - x[..., 0]) * (y[..., 1] - y[..., 0])
    low_x, high_x = _span(x, width)
    low_y, high_y = _span(y, height)
    shown = (area.abs() if two_sided else -area) > _LEAST_AREA
    shown &= (high_x >= low_x) & (high_y >= low_y) & (points[..., 2] > 0).all(dim=-1)
    frame, triangle = shown.nonzero(as_tuple=True)
    buffer = torch.full((frames * height * width,), torch.iinfo(torch.int64).max, device=corners.device)
    lows = torch.stack([low_x[shown], low_y[shown]], dim=-1)
    sides = torch.maximum(high_x[shown] - low_x[shown], high_y[shown] - low_y[shown]) + 1
    edges = _edges(points[shown], area[shown])
    least = 1
    for side in _SIDES:
        chosen = ((sides >= least) & (sides <= side)).nonzero()[:, 0]
        least = side + 1
        for part in chosen.split(max(1, _PIXELS_AT_ONCE // side**2)):
            _paint(buffer, edges[part], lows[part], frame[part], triangle[part], side, (height, width))
    pixels = (buffer != torch.iinfo(torch.int64).max).nonzero()[:, 0]
    return _resolve(pixels, buffer[pixels] & 0xFFFFFFFF, points, area, (height, width))


def _span(values: Float32[Tensor, "frames triangles 3"], most: int) -> tuple[Tensor, Tensor]:
    """First and last pixel whose centre may lie inside."""
    low, high = values.amin(dim=-1), values.amax(dim=-1)
    low = (low.clamp(-1, most + 1) - 0.5).ceil().clamp(min=0)
    high = (high.clamp(-1, most + 1) - 0.5).floor().clamp(max=most - 1)
    return low.long(), high.long()


def _edges(
    points: Float32[Tensor, "triangles 3 3"], area: Float32[Tensor, " triangles"]
) -> Float32[Tensor, "triangles 3 4"]:
    """Per triangle the planes a x + b y + c of two weights and of 1 / depth, from its first corner, and the corner."""
    (x0, y0, d0), (x1, y1, d1), (x2, y2, d2) = points.unbind(1)[0].T, points.unbind(1)[1].T, points.unbind(1)[2].T
    first = torch.stack([y2 - y0, x0 - x2], dim=-1) / area[:, None]  # weight of corner 1
    second = torch.stack([y0 - y1, x1 - x0], dim=-1) / area[:, None]  # weight of corner 2
    depth = first * (d1 - d0)[:, None] + second * (d2 - d0)[:, None]
    zero = torch.zeros_like(x0)
    rows = [(first, zero, x0), (second, zero, y0), (depth, d0, zero)]
    return torch.stack([torch.cat([plane, c[:, None], corner[:, None]], dim=-1) for plane, c, corner in rows], dim=1)


def _paint(
    buffer: Int64[Tensor, " pixels"],
    edges: Float32[Tensor, "triangles 3 4"],
    lows: Int64[Tensor, "triangles 2"],
    frame: Int64[Tensor, " triangles"],
    triangle: Int64[Tensor, " triangles"],
    side: int,
    size: tuple[int, int],
) -> None:
    height, width = size
    offset = torch.arange(side, device=buffer.device)
    column, row = lows[:, :1] + offset, lows[:, 1:] + offset  # triangles side
    x = column + 0.5 - edges[:, 0, 3:]
    y = row + 0.5 - edges[:, 1, 3:]
    first = (edges[:, 0, :1] * x)[:, None] + (edges[:, 0, 1:2] * y)[..., None]  # triangles rows columns
    second = (edges[:, 1, :1] * x)[:, None] + (edges[:, 1, 1:2] * y)[..., None]
    inside = (first >= 0) & (second >= 0) & (first + second <= 1)
    inside &= ((row < height)[..., None]) & ((column < width)[:, None])
    hit, at_row, at_column = inside.nonzero(as_tuple=True)
    depth = edges[hit, 2, 2] + edges[hit, 2, 0] * x[hit, at_column] + edges[hit, 2, 1] * y[hit, at_row]
    steps = _NEAREST - (depth.clamp(0, 1) * _NEAREST).long()
    pixel = (frame[hit] * height + row[hit, at_row]) * width + column[hit, at_column]
    buffer.scatter_reduce_(0, pixel, (steps << 32) | triangle[hit], reduce="amin")


def _resolve(
    pixels: Int64[Tensor, " fragments"],
    triangles: Int64[Tensor, " fragments"],
    points: Float32[Tensor, "frames triangles 3 3"],
    area: Float32[Tensor, "frames triangles"],
    size: tuple[int, int],
) -> Fragments:
    height, width = size
    frame = pixels // (height * width)
    x = (pixels % width + 0.5).float()
    y = (pixels // width % height + 0.5).float()
    corners = points[frame, triangles]  # fragments 3 3
    dx, dy = corners[:, :, 0] - x[:, None], corners[:, :, 1] - y[:, None]
    weights = dx.roll(-1, 1) * dy.roll(-2, 1) - dx.roll(-2, 1) * dy.roll(-1, 1)
    weights = (weights / area[frame, triangles][:, None]).clamp(0, 1) * corners[:, :, 2]
    inverse_depth = weights.sum(dim=1)
    return Fragments(pixels, triangles, weights / inverse_depth[:, None], inverse_depth)
