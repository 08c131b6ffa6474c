"""Eyes and mouth: the openings of a face, which no smooth warp can shut.

A lid slides over the eye, and lips part before the teeth. A spline can only squeeze what lies between lids that touch,
and many shut eyes are found with the upper lid under the lower one, where it folds. So places of the target are
first moved along each opening's own up and down, until it is as open as in the source; a spline, which sees it so, does
the rest. Between a limit, an edge, the other edge and the other limit the move changes evenly, and beyond them there is
none: the skin of a lid is drawn over the eye, and lips part within their outlines.

Of a mouth that opens further than the source's, the teeth are not drawn out: what the source shows stays with the lip
that it lies at, and between comes to light what the source hides, the cavity.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

EYES = (([36, 39], [37, 38], [41, 40]), ([42, 45], [43, 44], [47, 46]))  # corners, upper lid, lower lid
_MOUTH, _INNER_CORNERS, _UPPER_LIP, _LOWER_LIP = [48, 54], [60, 64], [61, 62, 63], [67, 66, 65]
_UPPER_OUTLINE, _LOWER_OUTLINE = [48, 49, 50, 51, 52, 53, 54], [48, 59, 58, 57, 56, 55, 54]
# In widths of the opening, corner to corner:
_ABOVE_LID, _BELOW_LID = 0.35, 0.25  # how far from a lid its skin moves along
_SHUT = 0.06  # what a detector still sees between lids that touch
_RIM = 0.06  # of the lower lid, that the lashes of the upper one cover when it is shut
_LEAST = 0.002  # between the edges of what is shut: they keep their order
_LIP = 0.02  # least thickness of a lip
_STRETCH = 1.25  # of what is seen in a mouth, at most
_AT_UPPER_LIP, _AT_LOWER_LIP = 0.7, 0.3  # of that, what stays with each: upper teeth are seen more than lower ones
_SHADE = 0.05  # where a cavity begins
_ROUND = 0.6  # an edge leaves its corner by so much steeper than straight to the nearest pair
# How light the cavity is beside the lips: darkest above; where it is high enough, the tongue lies at its bottom. Read
# off open mouths, drawn and real.
_DARK, _TONGUE = 0.42, 0.88
_DARK_UNTIL, _TONGUE_FROM = 0.35, 0.8  # shares of its height
_TONGUE_HIDDEN, _TONGUE_SEEN = 0.1, 0.3  # heights of the cavity
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
        return (self.gap + self.lower - self.upper).clamp_min(_LEAST)

    @property
    def cavity(self) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """From where to where nothing of the source is shown."""
        return self.above + _AT_UPPER_LIP * self.shown, self.below - _AT_LOWER_LIP * self.shown


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

    def shift(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        """How far each place of the target is to be moved."""
        return self.parted(*self.axes.coordinates(places))[..., None] * self.axes.down

    def parted(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        """How much lower each place is to be moved."""
        column = self.column(along)
        top, above, below, bottom, upper, lower, shown = column
        gap, still = below - above, torch.zeros_like(upper)
        seen = torch.minimum(gap + lower - upper, gap / _NARROW)  # of the source, as high as it is drawn there
        squeeze, inside = seen - shown, upper + seen - gap
        return interpolate(
            height,
            (top, above, *column.cavity, below, below, bottom),
            (still, upper, upper + _AT_UPPER_LIP * squeeze, inside - _AT_LOWER_LIP * squeeze, inside, lower, still),
        )

    def column(self, along: Float[Tensor, "batch places"]) -> Column:
        """In which places lie; edges leave the corners in a curve."""
        table = torch.cat([self.heights, self.shifts, self.shown[:, None]], dim=1)[..., None]
        first, second, *_, last_but_one, last = self.columns[..., None].unbind(1)
        along = along + _ROUND * (_hump(along, first, second) - _hump(along, last_but_one, last))
        rows = interpolate(along[:, None], self.columns[:, None, :, None].unbind(2), table.unbind(2))
        return Column(*rows.unbind(1))

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


@dataclass(frozen=True)
class Revealing(Opening):
    """One that may show what its source hides, in a colour that the source has beside it."""

    colour_at: Float[Tensor, "batch points 2"]
    """Where in the source."""

    @abstractmethod
    def uncovered(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        """How far each place of the target shows what its source hides, 0 to 1, and how light that is beside the
        colour."""


@dataclass(frozen=True)
class Mouth(Revealing):
    """What a mouth shows that its source hides is a cavity, in the lips' colour."""

    def uncovered(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        along, height = self.axes.coordinates(places)
        start, end = self.column(along).cavity
        share = (torch.minimum(height - start, end - height) / _SHADE).clamp(0, 1)
        depth = (height - start) / (end - start).clamp_min(_LEAST)
        tongue = ramp(end - start, _TONGUE_HIDDEN, _TONGUE_SEEN) * ramp(depth, _DARK_UNTIL, _TONGUE_FROM)
        return torch.stack([share, _DARK + (_TONGUE - _DARK) * tongue], dim=-1)


def in_order(landmarks: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 68 2"]:
    """Upper lids and lips above the lower ones, however little: what is found the other way round is shut."""
    ordered = landmarks.clone()
    for corners, upper, lower in (*EYES, (_MOUTH, _UPPER_LIP, _LOWER_LIP)):
        axes = axes_of(landmarks, corners)
        above, below = (axes.coordinates(landmarks[:, points])[1] for points in (upper, lower))
        overlap = (above - below + _LEAST).clamp_min(0)[..., None] / 2 * axes.down
        ordered[:, upper] -= overlap
        ordered[:, lower] += overlap
    return ordered


def find_openings(source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"]) -> list[Opening]:
    """Both eyes and the mouth, of landmarks `in_order`, in any unit."""
    return [*(_eye(source, target, *eye) for eye in EYES), _mouth(source, target)]


def settled_landmarks(target: Float[Tensor, "batch 68 2"], openings: list[Opening]) -> Float[Tensor, "batch 68 2"]:
    """The target's landmarks when it is as open as its source."""
    settled = target.clone()
    for opening in openings:
        settled[:, opening.landmarks] += opening.landmark_shifts[..., None] * opening.axes.down
    return settled


def settled_points(points: Float[Tensor, "batch points 2"], openings: list[Opening]) -> Float[Tensor, "batch points 2"]:
    """Where any points of the target lie then."""
    settled = points.clone()
    for opening in openings:
        settled += opening.shift(points)
    return settled


def settled_places(
    places: Float[Tensor, "size size 2"], extent: float, openings: list[Opening]
) -> Float[Tensor, "batch size size 2"]:
    """Where pixels of the target, which span [-extent, extent], lie when it is as open as its source."""
    settled = places.repeat(len(openings[0].columns), 1, 1, 1)
    for opening in openings:
        rows, columns = opening.block(len(places), extent)
        settled[:, rows, columns] += asked_of_each(opening.shift, places[rows, columns], len(settled))
    return settled


def asked_of_each(
    question: Callable[[Tensor], Tensor], block: Float[Tensor, "rows columns 2"], batch: int
) -> Float[Tensor, "batch rows columns ..."]:
    """What a question about places, of each of a batch its own, says of a block that is the same for all."""
    answer: Tensor = question(block.flatten(0, 1).expand(batch, -1, -1)).unflatten(1, block.shape[:2])
    return answer


def _eye(source: Tensor, target: Tensor, corners: list[int], upper: list[int], lower: list[int]) -> Opening:
    """The lids go where the source has them between its corners."""
    axes = axes_of(target, corners)
    _, wanted = _edges(source, axes_of(source, corners), upper, lower)
    along, found = _edges(target, axes, upper, lower)
    shut = (1 - (found[:, 1] - found[:, 0]) / (wanted[:, 1] - wanted[:, 0]).clamp_min(_LEAST)).clamp_min(0)
    half_gap = ((found[:, 1] - found[:, 0] - _SHUT * shut) / 2).clamp_min(_LEAST / 2)
    middle = found.mean(dim=1)
    asked = torch.stack([middle - half_gap, middle + half_gap], dim=1)
    hidden = wanted + F.pad((_RIM * shut)[:, None], (0, 0, 1, 0))
    edges, settled = (F.pad(heights, (1, 1)) for heights in (asked, hidden))
    upper_limit = torch.minimum(edges, settled)[:, :1] - _ABOVE_LID
    lower_limit = torch.maximum(edges, settled)[:, 1:] + _BELOW_LID
    return Opening(
        axes,
        columns=torch.cat([torch.zeros_like(along[:, :1]), along, torch.ones_like(along[:, :1])], dim=1),
        heights=torch.cat([upper_limit, edges, lower_limit], dim=1),
        shifts=settled - edges,
        landmarks=upper + lower,
        landmark_shifts=(wanted - found).flatten(1),
        shown=edges[:, 1] - edges[:, 0],
    )


def _mouth(source: Tensor, target: Tensor) -> Mouth:
    """The inner lips go where the source has them between its lips' outlines."""
    _, wanted, outline_of_source = _lips(source)
    columns, edges, outline = _lips(target)
    top, bottom = outline.split(1, dim=1)
    top_of_source, bottom_of_source = outline_of_source.split(1, dim=1)
    stretch = (bottom - top).clamp_min(2 * _LIP) / (bottom_of_source - top_of_source).clamp_min(2 * _LIP)
    # The corners stay.
    inner_shifts = ((wanted - top_of_source) * stretch - (edges - top))[..., 1:-1]
    shifts = F.pad(inner_shifts, (1, 1))
    upper_limit = top.minimum(torch.minimum(edges, edges + shifts)[:, :1] - _LIP)
    lower_limit = bottom.maximum(torch.maximum(edges, edges + shifts)[:, 1:] + _LIP)
    lip_edges, lip_outlines = _UPPER_LIP + _LOWER_LIP, _UPPER_OUTLINE[2:-2] + _LOWER_OUTLINE[2:-2]
    return Mouth(
        axes_of(target, _MOUTH),
        columns=columns,
        heights=torch.cat([upper_limit, edges, lower_limit], dim=1),
        shifts=shifts,
        landmarks=_UPPER_LIP + _LOWER_LIP,
        landmark_shifts=inner_shifts.flatten(1),
        shown=torch.minimum(edges[:, 1] - edges[:, 0], _STRETCH * (wanted[:, 1] - wanted[:, 0])),
        colour_at=(source[:, lip_edges] + source[:, lip_outlines]) / 2,
    )


def _lips(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns from one inner corner to the other, and in each the heights of both inner edges and of both outlines."""
    axes = axes_of(points, _MOUTH)
    along, edges = _edges(points, axes, _UPPER_LIP, _LOWER_LIP)
    (first, last), (start, end) = (each.split(1, dim=1) for each in axes.coordinates(points[:, _INNER_CORNERS]))
    columns = torch.cat([first, along, last], dim=1)
    edges = torch.cat([start[:, None].expand(-1, 2, -1), edges, end[:, None].expand(-1, 2, -1)], dim=2)
    lines = (axes.coordinates(points[:, line]) for line in (_UPPER_OUTLINE, _LOWER_OUTLINE))
    outline = [interpolate(columns, x.split(1, dim=1), y.split(1, dim=1)) for x, y in lines]
    return columns, edges, torch.stack(outline, dim=1)


def axes_of(points: Float[Tensor, "batch 68 2"], corners: list[int]) -> Axes:
    first, last = points[:, corners].split(1, dim=1)
    return Axes(first, last - first)


def _edges(
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
