"""Eyes and mouth: the openings of a face, which no smooth warp can shut.

A lid slides over the eye, and lips part before the teeth. A spline can only squeeze what lies between lids that touch,
and many shut eyes are found with the upper lid under the lower one, where it folds. So places of the target are
first moved along each opening's own up and down, until it is as open as in the source; a spline, which sees it so, does
the rest. Between a limit, an edge, the other edge and the other limit the move changes evenly, and beyond them there is
none: the skin of a lid is drawn over the eye, and lips part within their outlines.

What opens further than in the source may show what the source hides: between its edges an opening may be painted.
`training.warp.eyes` and `training.warp.mouth` know how.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

MOUTH = ([48, 54], [61, 62, 63], [67, 66, 65])  # corners, upper lip, lower lip
EYES = (([36, 39], [37, 38], [41, 40]), ([42, 45], [43, 44], [47, 46]))  # corners, upper lid, lower lid
# In widths of the opening, corner to corner:
MIN_GAP = 0.002  # between the edges of what is shut: they keep their order
_AT_UPPER_EDGE, _AT_LOWER_EDGE = 0.7, 0.3  # of what is shown, what stays with each: most teeth seen are upper ones
_ROUND = 0.6  # an edge leaves its corner by so much steeper than straight to the nearest pair
# Open by less than this share of the source, only what lies next to the upper edge shows: lashes, and less and less of
# the eye. Else each pixel along a narrow line would show another part of it.
_NARROW = 0.25


@dataclass(frozen=True)
class Axes:
    """Of an opening: `across` leads from corner to corner and is the unit of both; `down` is square to it."""

    corner: Float[Tensor, "batch 1 2"]
    across: Float[Tensor, "batch 1 2"]

    @property
    def down(self) -> Float[Tensor, "batch 1 2"]:
        x, y = self.across.unbind(-1)
        return torch.stack([-y, x], dim=-1)

    def coordinates(
        self, places: Float[Tensor, "batch places 2"]
    ) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """Shares of the way across, and heights, downwards."""
        unit = self.across.square().sum(-1).clamp_min(torch.finfo(places.dtype).tiny)
        from_corner = places - self.corner
        along, height = ((from_corner * axis).sum(-1) / unit for axis in (self.across, self.down))
        return along, height


class Column(NamedTuple):
    """Of an opening, where a place lies: heights of both limits and edges, the edges' shifts, and `Opening.shown`."""

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
        """From where to where nothing of the source is shown."""
        return self.above + _AT_UPPER_EDGE * self.shown, self.below - _AT_LOWER_EDGE * self.shown


@dataclass(frozen=True)
class Paint:
    """A colour for what a source hides: one that it has elsewhere, as it is or paler."""

    at: Float[Tensor, "batch points 2"]
    """Where in the source; the mean of these places."""
    saturation: float = 1.0


@dataclass(frozen=True)
class Opening:
    """An eye or the mouth of a batch of targets, and how it differs from the sources'.

    In each column `heights` are, downwards, those of the upper limit, both edges and the lower limit; `shifts` are how
    much further down the edges are when the target is as open as its source.
    """

    axes: Axes
    columns: Float[Tensor, "batch columns"]
    heights: Float[Tensor, "batch 4 columns"]
    shifts: Float[Tensor, "batch 2 columns"]
    landmarks: list[int]
    """Of the upper edge, then of the lower one: all but the corners."""
    landmark_shifts: Float[Tensor, "batch landmarks"]
    shown: Float[Tensor, "batch columns"]
    """Height on which what the source shows between its edges is drawn at most."""
    paints: tuple[Paint, ...] = field(default=(), kw_only=True)
    """For what it shows and its source hides; the later over the earlier."""

    def shift(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        """How far each place of the target is to be moved."""
        return self.vertical_shift(*self.axes.coordinates(places))[..., None] * self.axes.down

    def vertical_shift(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        """How much lower each place is to be moved."""
        column = self.column(along)
        top, above, below, bottom, upper, lower, shown = column
        gap, still = column.gap, torch.zeros_like(upper)
        seen = torch.minimum(gap + lower - upper, gap / _NARROW)  # of the source, as high as it is drawn there
        squeeze, inside = seen - shown, upper + seen - gap
        return interpolate(
            height,
            (top, above, *column.cavity, below, below, bottom),
            (still, upper, upper + _AT_UPPER_EDGE * squeeze, inside - _AT_LOWER_EDGE * squeeze, inside, lower, still),
        )

    def column(self, along: Float[Tensor, "batch places"]) -> Column:
        """In which places lie; edges leave the corners in a curve."""
        table = torch.cat([self.heights, self.shifts, self.shown[:, None]], dim=1)[..., None]
        first, second, *_, last_but_one, last = self.columns[..., None].unbind(1)
        along = along + _ROUND * (_hump(along, first, second) - _hump(along, last_but_one, last))
        rows = interpolate(along[:, None], self.columns[:, None, :, None].unbind(2), table.unbind(2))
        return Column(*rows.unbind(1))

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        """How far each place of the target is painted with each paint, 0 to 1, and how light beside the paint."""
        raise NotImplementedError("an opening without paints reveals nothing")

    def block(self, size: int, extent: float) -> tuple[slice, slice]:
        """Rows and columns in which anything moves, of `size` pixels that span [-extent, extent]."""
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
    """Upper lids and lips above the lower ones, however little: what is found the other way round is shut."""
    ordered = landmarks.clone()
    for corners, upper, lower in (*EYES, MOUTH):
        axes = axes_of(landmarks, corners)
        above, below = (axes.coordinates(landmarks[:, points])[1] for points in (upper, lower))
        overlap = (above - below + MIN_GAP).clamp_min(0)[..., None] / 2 * axes.down
        ordered[:, upper] -= overlap
        ordered[:, lower] += overlap
    return ordered


def landmarks_at_source_openness(
    target: Float[Tensor, "batch 68 2"], openings: list[Opening]
) -> Float[Tensor, "batch 68 2"]:
    """The target's landmarks when it is as open as its source."""
    settled = target.clone()
    for opening in openings:
        settled[:, opening.landmarks] += opening.landmark_shifts[..., None] * opening.axes.down
    return settled


def points_at_source_openness(
    points: Float[Tensor, "batch points 2"], openings: list[Opening]
) -> Float[Tensor, "batch points 2"]:
    """Where any points of the target lie then."""
    settled = points.clone()
    for opening in openings:
        settled += opening.shift(points)
    return settled


def pixels_at_source_openness(
    places: Float[Tensor, "size size 2"], extent: float, openings: list[Opening]
) -> Float[Tensor, "batch size size 2"]:
    """Where pixels of the target, which span [-extent, extent], lie when it is as open as its source."""
    settled = places.repeat(len(openings[0].columns), 1, 1, 1)
    for opening in openings:
        rows, columns = opening.block(len(places), extent)
        settled[:, rows, columns] += per_sample(opening.shift, places[rows, columns], len(settled))
    return settled


def per_sample(
    question: Callable[[Tensor], Tensor], block: Float[Tensor, "rows columns 2"], batch: int
) -> Float[Tensor, "batch rows columns ..."]:
    """What a question about places, of each of a batch its own, says of a block that is the same for all."""
    answer: Tensor = question(block.flatten(0, 1).expand(batch, -1, -1)).unflatten(1, block.shape[:2])
    return answer


def axes_of(points: Float[Tensor, "batch 68 2"], corners: list[int]) -> Axes:
    first, last = points[:, corners].split(1, dim=1)
    return Axes(first, last - first)


def edges_of(
    points: Float[Tensor, "batch 68 2"], axes: Axes, upper: list[int], lower: list[int]
) -> tuple[Float[Tensor, "batch pairs"], Float[Tensor, "batch 2 pairs"]]:
    """Where across the pairs of landmarks lie, and how low each of a pair."""
    (above, high), (below, low) = (axes.coordinates(points[:, edge]) for edge in (upper, lower))
    return (above + below) / 2, torch.stack([high, low], dim=1)


def ramp(
    x: Float[Tensor, "..."], start: Float[Tensor, "..."] | float, end: Float[Tensor, "..."] | float
) -> Float[Tensor, "..."]:
    """Zero up to the first of two in rising order, one from the second on, linear between."""
    return ((x - start) / torch.as_tensor(end - start).clamp_min(1e-6)).clamp(0, 1)


def _hump(
    x: Float[Tensor, "batch places"], start: Float[Tensor, "batch 1"], end: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch places"]:
    """Zero outside the two and at them, a quarter of the way from one to the other half way."""
    share = ramp(x, start, end)
    return (end - start) * share * (1 - share)


def interpolate(
    x: Float[Tensor, "..."], knots: Sequence[Float[Tensor, "..."]], values: Sequence[Float[Tensor, "..."]]
) -> Float[Tensor, "..."]:
    """Linear between knots in rising order, constant beyond them."""
    result = values[0]
    for (left, right), (start, end) in zip(pairwise(knots), pairwise(values), strict=True):
        result = result + (end - start) * ramp(x, left, right)
    return result
