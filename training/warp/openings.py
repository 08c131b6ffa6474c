"""Openings of the face (eyes and mouth): open and close them before the spline, which cannot.

Lids slide over the eye, and lips part in front of the teeth. A spline could only compress what is between lids that
touch, and it folds where a detector reports the upper lid of a shut eye below the lower one. So points of the target
are first moved along each opening's vertical axis until it is as open as in the source; the spline handles the rest.
The displacement is piecewise linear between four heights (upper limit, upper edge, lower edge, lower limit) and zero
outside: the skin of a lid is drawn over the eye, and lips move within their outlines.

An opening that is wider than in the source may show what the source hides, which is painted
(`training.warp.eyes`, `training.warp.mouth`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from training.warp.picked_points import add_to, pick

MOUTH = ([48, 54], [61, 62, 63], [67, 66, 65])  # corners, upper lip, lower lip
EYES = (([36, 39], [37, 38], [41, 40]), ([42, 45], [43, 44], [47, 46]))  # corners, upper lid, lower lid
# Lengths are in widths of the opening, from corner to corner.
MIN_GAP = 0.002  # minimum gap between edges, so that they keep their order
_AT_UPPER_EDGE, _AT_LOWER_EDGE = 0.7, 0.3  # shares of what is shown that stay with each edge: most teeth are upper ones
_CORNER_CURVATURE = 0.6  # an edge leaves the corner steeper by this than a straight line to the nearest pair of points
# Below this share of the source's opening, only what is next to the upper edge (lashes) is shown; otherwise
# neighbouring pixels along a narrow gap would show different parts of the eye.
_NARROW = 0.25


@dataclass(frozen=True)
class Axes:
    """Axes of an opening: `across` is the vector from corner to corner, `down` is perpendicular and as long."""

    corner: Float[Tensor, "batch 1 2"]
    across: Float[Tensor, "batch 1 2"]

    @property
    def down(self) -> Float[Tensor, "batch 1 2"]:
        x, y = self.across.unbind(-1)
        return torch.stack([-y, x], dim=-1)

    def coordinates(
        self, places: Float[Tensor, "batch places 2"]
    ) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """Return coordinates along `across` and `down`, in units of the opening's width."""
        unit = self.across.square().sum(-1).clamp_min(torch.finfo(places.dtype).tiny)
        from_corner = places - self.corner
        along, height = ((from_corner * axis).sum(-1) / unit for axis in (self.across, self.down))
        return along, height


class Column(NamedTuple):
    """An opening's values at points: heights of limits and edges, shifts of the edges, and `Opening.shown`."""

    top: Float[Tensor, "batch places"]
    above: Float[Tensor, "batch places"]
    below: Float[Tensor, "batch places"]
    bottom: Float[Tensor, "batch places"]
    upper: Float[Tensor, "batch places"]
    lower: Float[Tensor, "batch places"]
    shown: Float[Tensor, "batch places"]

    @property
    def gap(self) -> Float[Tensor, "batch places"]:
        return self.below - self.above

    @property
    def gap_of_source(self) -> Float[Tensor, "batch places"]:
        return (self.gap + self.lower - self.upper).clamp_min(MIN_GAP)

    @property
    def cavity(self) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """The heights between which nothing of the source is shown."""
        return self.above + _AT_UPPER_EDGE * self.shown, self.below - _AT_LOWER_EDGE * self.shown


@dataclass(frozen=True)
class Paint:
    """A colour for what a source hides, sampled elsewhere in it."""

    at: Float[Tensor, "batch points 2"]
    """Positions in the source, whose mean colour is used."""
    saturation: float = 1.0

    def tint(self, colour: Float[Tensor, "batch 3 1 1"]) -> Float[Tensor, "batch 3 1 1"]:
        """Return a colour of the source with the paint's saturation."""
        grey = colour.mean(dim=1, keepdim=True)
        return grey + self.saturation * (colour - grey)


@dataclass(frozen=True)
class Opening:
    """An eye or mouth of a batch of targets, and its difference from the sources'.

    In each column, `heights` are those of the upper limit, both edges and the lower limit, downwards; `shifts` is how
    far the edges move down to be as open as in the source.
    """

    axes: Axes
    columns: Float[Tensor, "batch columns"]
    heights: Float[Tensor, "batch 4 columns"]
    shifts: Float[Tensor, "batch 2 columns"]
    landmarks: list[int]
    """Indices of the upper edge's landmarks, then of the lower edge's, without the corners."""
    landmark_shifts: Float[Tensor, "batch landmarks"]
    shown: Float[Tensor, "batch columns"]
    """Maximum height over which what the source shows between its edges is drawn."""
    paints: tuple[Paint, ...] = field(default=(), kw_only=True)
    """Paints of what the source hides; later ones cover earlier ones."""

    def shift(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        """Return the displacement of points of the target."""
        return self.vertical_shift(*self.axes.coordinates(places))[..., None] * self.axes.down

    def vertical_shift(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        """Return the downward displacement of points, in units of the opening's width."""
        column = self.column(along)
        top, above, below, bottom, upper, lower, shown = column
        gap, zero = column.gap, torch.zeros_like(upper)
        visible = torch.minimum(gap + lower - upper, gap / _NARROW)  # height of the part of the source that is shown
        squeeze, inside = visible - shown, upper + visible - gap
        return interpolate(
            height,
            (top, above, *column.cavity, below, below, bottom),
            (zero, upper, upper + _AT_UPPER_EDGE * squeeze, inside - _AT_LOWER_EDGE * squeeze, inside, lower, zero),
        )

    def column(self, along: Float[Tensor, "batch places"]) -> Column:
        """Interpolate the columns at points; edges are curved near the corners."""
        table = torch.cat([self.heights, self.shifts, self.shown[:, None]], dim=1)[..., None]
        first, second, *_, last_but_one, last = self.columns[..., None].unbind(1)
        along = along + _CORNER_CURVATURE * (_hump(along, first, second) - _hump(along, last_but_one, last))
        rows = interpolate(along[:, None], self.columns[:, None, :, None].unbind(2), table.unbind(2))
        return Column(*rows.unbind(1))

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        """Return, for each point and paint, the coverage in [0, 1] and the brightness relative to the paint."""
        raise NotImplementedError("an opening without paints reveals nothing")

    def block(self, size: int, extent: float) -> tuple[slice, slice]:
        """Return the rows and columns in which pixels move, for `size` pixels that span [-extent, extent]."""
        ends = self.columns.amin().clamp_max(0), self.columns.amax().clamp_min(1)
        limits = self.heights[:, 0].amin(dim=1), self.heights[:, 3].amax(dim=1)
        corner, across, down = (axis[:, 0] for axis in (self.axes.corner, self.axes.across, self.axes.down))
        rim = torch.cat([corner + end * across + limit[:, None] * down for end in ends for limit in limits])
        pixels = (rim / extent + 1) * (size / 2)
        columns, rows = (
            slice(max(math.floor(first), 0), max(math.ceil(last), 0))
            for first, last in zip(pixels.amin(dim=0).tolist(), pixels.amax(dim=0).tolist(), strict=True)
        )
        return rows, columns


def uncross_edges(landmarks: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 68 2"]:
    """Move upper and lower edges apart where they cross, to a gap of `MIN_GAP`: crossed edges mean shut."""
    ordered = landmarks.clone()
    for corners, upper, lower in (*EYES, MOUTH):
        axes = axes_of(landmarks, corners)
        above, below = (axes.coordinates(pick(landmarks, points))[1] for points in (upper, lower))
        overlap = (above - below + MIN_GAP).clamp_min(0)[..., None] / 2 * axes.down
        add_to(ordered, upper, -overlap)
        add_to(ordered, lower, overlap)
    return ordered


def landmarks_at_source_openness(
    target: Float[Tensor, "batch 68 2"], openings: list[Opening]
) -> Float[Tensor, "batch 68 2"]:
    """Return the target's landmarks with eyes and mouth as open as in the source."""
    moved = target.clone()
    for opening in openings:
        add_to(moved, opening.landmarks, opening.landmark_shifts[..., None] * opening.axes.down)
    return moved


def points_at_source_openness(
    points: Float[Tensor, "batch points 2"], openings: list[Opening]
) -> Float[Tensor, "batch points 2"]:
    """The same for any points of the target."""
    moved = points.clone()
    for opening in openings:
        moved += opening.shift(points)
    return moved


class PixelShifts(NamedTuple):
    """Displacements that make a block of the target's pixels as open as in the source."""

    rows: slice
    columns: slice
    shifts: Float[Tensor, "batch rows columns 2"]


class PaintLayer(NamedTuple):
    """How a paint covers a block of the target's pixels."""

    rows: slice
    columns: slice
    paint: Paint
    at: Float[Tensor, "batch points 2"]
    """Positions of the paint in the shot, whose edges are at -1 and 1."""
    coverage: Float[Tensor, "batch rows columns"]
    light: Float[Tensor, "batch rows columns"]
    """Brightness relative to the paint."""


def pixel_shifts(
    places: Float[Tensor, "size size 2"], openings: Sequence[Opening], blocks: Sequence[tuple[slice, slice]]
) -> list[PixelShifts]:
    """Return the displacements of the target's pixels at `places`; those of blocks that overlap add up, and other
    pixels stay.

    Args:
        blocks: of the openings.
    """
    found = []
    for opening, (rows, columns) in zip(openings, blocks, strict=True):
        shifts = _per_sample(opening.shift, places[rows, columns], len(opening.columns))
        found.append(PixelShifts(rows, columns, shifts))
    return found


def paint_layers(
    places: Float[Tensor, "size size 2"],
    extent: float,
    openings: Sequence[Opening],
    blocks: Sequence[tuple[slice, slice]],
) -> list[PaintLayer]:
    """Return the layers to paint one over the other."""
    found = []
    for opening, (rows, columns) in zip(openings, blocks, strict=True):
        if not opening.paints:
            continue
        layers = _per_sample(opening.paint_coverage, places[rows, columns], len(opening.columns)).unbind(3)
        found += [
            PaintLayer(rows, columns, paint, paint.at / extent, *layer.unbind(-1))
            for paint, layer in zip(opening.paints, layers, strict=True)
        ]
    return found


def _per_sample(
    function: Callable[[Tensor], Tensor], block: Float[Tensor, "rows columns 2"], batch: int
) -> Float[Tensor, "batch rows columns ..."]:
    """Apply a function of batched points to a block of points that is the same for each sample."""
    values: Tensor = function(block.flatten(0, 1).expand(batch, -1, -1)).unflatten(1, block.shape[:2])
    return values


def axes_of(points: Float[Tensor, "batch 68 2"], corners: list[int]) -> Axes:
    """Return the axes of an opening, given the indices of its corners."""
    first, last = pick(points, corners).split(1, dim=1)
    return Axes(first, last - first)


def edges_of(
    points: Float[Tensor, "batch 68 2"], axes: Axes, upper: list[int], lower: list[int]
) -> tuple[Float[Tensor, "batch pairs"], Float[Tensor, "batch 2 pairs"]]:
    """Return the positions across of the pairs of upper and lower landmarks, and the heights of both."""
    (above, high), (below, low) = (axes.coordinates(pick(points, edge)) for edge in (upper, lower))
    return (above + below) / 2, torch.stack([high, low], dim=1)


def ramp(
    x: Float[Tensor, "..."], start: Float[Tensor, "..."] | float, end: Float[Tensor, "..."] | float
) -> Float[Tensor, "..."]:
    """Return 0 up to `start`, 1 from `end` on, and linear in between."""
    return ((x - start) / torch.as_tensor(end - start).clamp_min(1e-6)).clamp(0, 1)


def _hump(
    x: Float[Tensor, "batch places"], start: Float[Tensor, "batch 1"], end: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch places"]:
    """Return a parabola that is 0 at `start` and `end` (and outside) and (end - start) / 4 halfway."""
    share = ramp(x, start, end)
    return (end - start) * share * (1 - share)


def interpolate(
    x: Float[Tensor, "..."], knots: Sequence[Float[Tensor, "..."]], values: Sequence[Float[Tensor, "..."]]
) -> Float[Tensor, "..."]:
    """Interpolate linearly between knots in ascending order; constant outside."""
    result = values[0]
    for (left, right), (start, end) in zip(pairwise(knots), pairwise(values), strict=True):
        result = result + (end - start) * ramp(x, left, right)
    return result
