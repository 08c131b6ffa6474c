"""Draw 68 landmarks as a landmark image: anti-aliased polylines on black, one colour per part of the face.

Two implementations give the same image: windows in numpy for CPUs, dense batches in torch for accelerators. The
coverage of a polyline is the maximum over its segments of clamp(thickness / 2 + 0.5 - distance, 0, 1); parts are
painted over each other in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class RasterConfig:
    """How landmarks are drawn. Stored in checkpoints: training and rendering must agree."""

    thickness: float = 2.0
    """Line thickness in pixels at 256 px; scales with the image."""
    inner_lip: bool = True
    """Draw the inner lip (points 60-67) too; without it the model renders open mouths badly."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.thickness <= 64:
            raise ValueError(f"thickness must lie in [0.1, 64] pixels at 256 px, got {self.thickness}")


@dataclass(frozen=True)
class _Part:
    first: int
    last: int
    closed: bool
    colour: tuple[int, int, int]
    inner_lip: bool = False

    def segments(self) -> list[tuple[int, int]]:
        pairs = [(i, i + 1) for i in range(self.first, self.last)]
        return [*pairs, (self.last, self.first)] if self.closed else pairs


_PARTS = (
    _Part(0, 16, False, (255, 255, 255)),  # jaw
    _Part(17, 21, False, (255, 0, 0)),  # brow at the image's left
    _Part(22, 26, False, (0, 255, 0)),
    _Part(27, 30, False, (0, 0, 255)),  # nose bridge
    _Part(31, 35, False, (0, 0, 255)),  # nostrils
    _Part(36, 41, True, (255, 0, 255)),  # eyes
    _Part(42, 47, True, (0, 255, 255)),
    _Part(48, 59, True, (255, 255, 0)),  # outer lip
    _Part(60, 67, True, (255, 255, 0), inner_lip=True),
)
_WINDOW = 4  # segments per window: the whole jaw would span most of the image


@dataclass(frozen=True)
class Polyline:
    """One line of the landmark image: the landmarks it joins, in order, and its colour (RGB, 0-255)."""

    points: tuple[int, ...]
    closed: bool
    colour: tuple[int, int, int]


def polylines(config: RasterConfig) -> tuple[Polyline, ...]:
    """Return the lines of the landmark image in painting order, for other renderers such as SVG."""
    return tuple(Polyline(tuple(range(p.first, p.last + 1)), p.closed, p.colour) for p in _parts(config))


def _parts(config: RasterConfig) -> list[_Part]:
    return [part for part in _PARTS if config.inner_lip or not part.inner_lip]


def rasterize(
    landmarks: Float[np.ndarray, "68 2"], size: int, config: RasterConfig
) -> UInt8[np.ndarray, "size size 3"]:
    """Draw one face. `landmarks` are in pixels of the image, pixel centres at integers; points may lie outside.

    Raises:
        ValueError: the landmarks are not finite.
    """
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks must be finite to be drawn")
    points = np.asarray(landmarks, dtype=np.float32)
    canvas = np.zeros((size, size, 3), dtype=np.float32)
    reach = np.float32(config.thickness * size / 256 / 2 + 0.5)
    for part in _parts(config):
        coverage = np.zeros((size, size), dtype=np.float32)
        segments = part.segments()
        for start in range(0, len(segments), _WINDOW):
            _cover(coverage, points, segments[start : start + _WINDOW], reach)
        rows, columns = np.nonzero(coverage)
        if rows.size == 0:
            continue
        alpha = coverage[rows, columns, None]
        colour = np.array(part.colour, dtype=np.float32)
        canvas[rows, columns] = canvas[rows, columns] * (1 - alpha) + colour * alpha
    return np.rint(canvas).astype(np.uint8)


def _cover(
    coverage: Float[np.ndarray, "size size"],
    points: Float[np.ndarray, "68 2"],
    segments: list[tuple[int, int]],
    reach: np.float32,
) -> None:
    """Take the maximum of `coverage` and that of `segments` in place, in the window around them."""
    size = coverage.shape[0]
    ends = points[np.array(segments)]
    # Clip before the cast: a point far outside would overflow the integer.
    low = np.clip(np.floor(ends.min(axis=(0, 1)) - reach), 0, size).astype(int)
    high = np.clip(np.ceil(ends.max(axis=(0, 1)) + reach) + 1, 0, size).astype(int)
    if (low >= high).any():
        return
    x = np.arange(low[0], high[0], dtype=np.float32)[None, None, :]
    y = np.arange(low[1], high[1], dtype=np.float32)[None, :, None]
    ax, ay = ends[:, 0, 0, None, None], ends[:, 0, 1, None, None]
    dx, dy = ends[:, 1, 0, None, None] - ax, ends[:, 1, 1, None, None] - ay
    length = np.maximum(dx * dx + dy * dy, np.float32(1e-12))
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1)
    distance = np.sqrt((ax + along * dx - x) ** 2 + (ay + along * dy - y) ** 2)
    cover = np.clip(reach - distance, 0, 1).max(axis=0)
    window = coverage[low[1] : high[1], low[0] : high[0]]
    np.maximum(window, cover, out=window)


def rasterize_batch(
    landmarks: Float[Tensor, "batch 68 2"], size: int, config: RasterConfig
) -> Float[Tensor, "batch 3 size size"]:
    """Draw a batch, in [-1, 1] with the 256 levels of the uint8 image, on the landmarks' device.

    On the CPU it uses the numpy implementation, which is two to three times faster than dense distances.
    """
    if landmarks.device.type != "cpu":
        return _rasterize_dense(landmarks, size, config)
    rows = [rasterize(face, size, config) for face in landmarks.detach().to(torch.float32).numpy()]
    images = torch.from_numpy(np.stack(rows) if rows else np.zeros((0, size, size, 3), np.uint8))
    return images.permute(0, 3, 1, 2).to(torch.float32).div(127.5).sub(1).contiguous()


def _rasterize_dense(
    landmarks: Float[Tensor, "batch 68 2"], size: int, config: RasterConfig
) -> Float[Tensor, "batch 3 size size"]:
    points = landmarks.detach().to(torch.float32)
    grid = torch.arange(size, device=points.device, dtype=torch.float32)
    x, y = grid[None, None, None, :], grid[None, None, :, None]
    reach = config.thickness * size / 256 / 2 + 0.5
    canvas = torch.zeros(points.shape[0], 3, size, size, device=points.device)
    for part in _parts(config):
        coverage = torch.zeros(points.shape[0], size, size, device=points.device)
        starts, ends, colour = _on_device(part, points.device)
        for window in range(0, len(starts), _WINDOW):
            few = slice(window, window + _WINDOW)
            a = points.index_select(1, starts[few])[..., None, None]
            d = points.index_select(1, ends[few])[..., None, None] - a
            ax, ay, dx, dy = a[:, :, 0], a[:, :, 1], d[:, :, 0], d[:, :, 1]
            length = (dx * dx + dy * dy).clamp_min(1e-12)
            along = (((x - ax) * dx + (y - ay) * dy) / length).clamp(0, 1)
            distance = ((ax + along * dx - x) ** 2 + (ay + along * dy - y) ** 2).sqrt()
            coverage = torch.maximum(coverage, (reach - distance).clamp(0, 1).amax(dim=1))
        canvas = canvas * (1 - coverage[:, None]) + colour[None, :, None, None] * coverage[:, None]
    return canvas.round().div(127.5).sub(1)


@lru_cache(maxsize=64)
def _on_device(part: _Part, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the segments' first and last points and the colour, copied once: a copy waits for the device."""
    starts, ends = zip(*part.segments(), strict=True)
    with torch.inference_mode(False):
        colour = torch.tensor(part.colour, device=device, dtype=torch.float32)
        return torch.tensor(starts, device=device), torch.tensor(ends, device=device), colour
