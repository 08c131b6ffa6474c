"""The mouth: lips that part show the teeth and the dark between them.

What a mouth shows in the source is not drawn out when it opens further: it stays with the lip that it lies at, and
between comes to light what the source hides. That is a cavity, dark above, with a tongue below where it is high; and
where the source shows nothing between its lips, the upper teeth too, more of them the wider the mouth is drawn.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.warp.openings import MIN_GAP, MOUTH, Opening, Paint, axes_of, edges_of, interpolate, ramp

_CORNERS, _UPPER_LIP, _LOWER_LIP = MOUTH
_INNER_CORNERS, _EYES = [60, 64], [36, 45]
_UPPER_OUTLINE, _LOWER_OUTLINE = [48, 49, 50, 51, 52, 53, 54], [48, 59, 58, 57, 56, 55, 54]
_CHEEKS = ([41, 31, 2], [46, 35, 14])  # below the eyes, where no beard grows
# In widths of the mouth, corner to corner:
_LIP = 0.02  # least thickness of a lip
_STRETCH = 1.25  # of what is seen in a mouth, at most
_SHADE = 0.05  # where the cavity begins
# How light the cavity is beside the lips: darkest above; where it is high enough, the tongue lies at its bottom. Read
# off open mouths, drawn and real.
_DARK, _TONGUE = 0.42, 0.88
_DARK_UNTIL, _TONGUE_FROM = 0.35, 0.8  # shares of its height
_TONGUE_HIDDEN, _TONGUE_SEEN = 0.1, 0.3  # heights of the cavity
# Upper teeth: how far they reach below the lip, in a mouth that is narrower than the source's by so much, and in one
# that is drawn wider. Read off real mouths.
_TEETH_HIDDEN, _TEETH_BARED = 0.06, 0.15
_NARROWER, _WIDER = 0.8, 1.05
_ARCH = 0.3  # by so much less at the corners
_LAST_TEETH = (0.05, 0.3)  # from a corner to the middle: they go out of sight
_EDGE_OF_LIP, _EDGE_OF_TEETH = 0.03, 0.02
_SHOWS_NOTHING, _SHOWS_ITS_OWN = 0.0, 0.06  # between the source's lips
_TEETH_SATURATION = 0.85  # beside the skin's, as light as which they are
_SHADOW_OF_LIP, _BELOW_LIP = 0.8, 0.06
_SHADOW_OF_CHEEKS = 0.5
_BETWEEN_TEETH = (0.0, 0.15, 0.265, 0.38)  # from the middle: incisors 8.5 and 6.5 mm wide, canines 7.5
_SEAM, _SEAM_WIDTH = 0.35, 0.02


@dataclass(frozen=True)
class Mouth(Opening):
    """A mouth of a batch of targets: paints are of the cavity, that of the lips, and of the teeth."""

    bared: Float[Tensor, "batch 1"]
    """How far teeth reach below the middle of the upper lip."""

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        along, height = self.axes.coordinates(places)
        column = self.column(along)
        start, end = column.cavity
        from_edges = torch.minimum(height - start, end - height)
        cavity = ramp(from_edges, 0.0, _SHADE), self._light_of_cavity(height - start, end - start)
        own_teeth = ramp(column.shown, _SHOWS_NOTHING, _SHOWS_ITS_OWN)
        seen = (1 - own_teeth) * ramp(from_edges, 0.0, _EDGE_OF_LIP)
        teeth = seen * self._share_of_teeth(along, height), self._light_of_teeth(along, height - start)
        return torch.stack([torch.stack(layer, dim=-1) for layer in (cavity, teeth)], dim=-2)

    def _light_of_cavity(
        self, depth: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        low = ramp(depth / height.clamp_min(MIN_GAP), _DARK_UNTIL, _TONGUE_FROM)
        return _DARK + (_TONGUE - _DARK) * low * ramp(height, _TONGUE_HIDDEN, _TONGUE_SEEN)

    def _share_of_teeth(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        """Their edge is level: it does not follow the lip."""
        aside, middle = self._aside(along), self.columns.shape[1] // 2
        edge = self.heights[:, 1, middle, None] + self.bared * (1 - _ARCH * aside.square())
        return ramp(edge - height, 0.0, _EDGE_OF_TEETH) * ramp(1 - aside.abs(), *_LAST_TEETH)

    def _light_of_teeth(
        self, along: Float[Tensor, "batch places"], below_lip: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        light = _SHADOW_OF_LIP + (1 - _SHADOW_OF_LIP) * ramp(below_lip, 0.0, _BELOW_LIP)
        light = light * (1 - _SHADOW_OF_CHEEKS * self._aside(along).square())
        for seam in _BETWEEN_TEETH:
            from_seam = ((along - 0.5).abs() - seam).abs()
            light = light * (1 - _SEAM * (1 - ramp(from_seam, 0.0, _SEAM_WIDTH)))
        return light

    def _aside(self, along: Float[Tensor, "batch places"]) -> Float[Tensor, "batch places"]:
        """From the middle, -1 and 1 at the inner corners."""
        return 2 * ramp(along, self.columns[:, :1], self.columns[:, -1:]) - 1


def find_mouth(source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"]) -> Mouth:
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
        axes_of(target, _CORNERS),
        columns=columns,
        heights=torch.cat([upper_limit, edges, lower_limit], dim=1),
        shifts=shifts,
        landmarks=_UPPER_LIP + _LOWER_LIP,
        landmark_shifts=inner_shifts.flatten(1),
        shown=torch.minimum(edges[:, 1] - edges[:, 0], _STRETCH * (wanted[:, 1] - wanted[:, 0])),
        paints=(
            Paint((source[:, lip_edges] + source[:, lip_outlines]) / 2),
            Paint(torch.stack([source[:, cheek].mean(dim=1) for cheek in _CHEEKS], dim=1), _TEETH_SATURATION),
        ),
        bared=_TEETH_HIDDEN + (_TEETH_BARED - _TEETH_HIDDEN) * ramp(_width(target) / _width(source), _NARROWER, _WIDER),
    )


def _lips(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns from one inner corner to the other, and in each the heights of both inner edges and of both outlines."""
    axes = axes_of(points, _CORNERS)
    along, edges = edges_of(points, axes, _UPPER_LIP, _LOWER_LIP)
    (first, last), (start, end) = (each.split(1, dim=1) for each in axes.coordinates(points[:, _INNER_CORNERS]))
    columns = torch.cat([first, along, last], dim=1)
    edges = torch.cat([start[:, None].expand(-1, 2, -1), edges, end[:, None].expand(-1, 2, -1)], dim=2)
    lines = (axes.coordinates(points[:, line]) for line in (_UPPER_OUTLINE, _LOWER_OUTLINE))
    outline = [interpolate(columns, x.split(1, dim=1), y.split(1, dim=1)) for x, y in lines]
    return columns, edges, torch.stack(outline, dim=1)


def _width(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 1"]:
    """Of the mouth, in distances of the eyes' outer corners."""
    mouth, eyes = ((points[:, ends[0]] - points[:, ends[1]]).norm(dim=-1, keepdim=True) for ends in (_CORNERS, _EYES))
    width: Tensor = (mouth / eyes.clamp_min(1e-6)).clamp_min(1e-6)
    return width
