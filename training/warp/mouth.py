"""The mouth: moving lips, and painting the cavity and the upper teeth when it opens further than in the source.

What the source shows between its lips is not stretched when the mouth opens further: it stays at the lip it is next to.
In between a cavity is painted, dark at the top, with a tongue at the bottom if it is high. If the source shows nothing
between its lips, the upper teeth are painted too; the wider the mouth, the more of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.warp.openings import MIN_GAP, MOUTH, Opening, Paint, axes_of, edges_of, interpolate, ramp
from training.warp.picked_points import pick

_CORNERS, _UPPER_LIP, _LOWER_LIP = MOUTH
_INNER_CORNERS, _EYES = [60, 64], [36, 45]
_UPPER_OUTLINE, _LOWER_OUTLINE = [48, 49, 50, 51, 52, 53, 54], [48, 59, 58, 57, 56, 55, 54]
_CHEEKS = ([41, 31, 2], [46, 35, 14])  # landmarks whose mean is below an eye, where no beard grows
# Lengths are in widths of the mouth, from corner to corner; brightness is relative to the paint. Lips:
_MIN_LIP = 0.02  # minimum thickness of a lip
_MAX_STRETCH = 1.25  # factor by which what the source shows between its lips is stretched at most
_LIP_FADE = 0.03  # distance from a lip over which teeth fade in
# Cavity, darkest at the top, with the tongue at the bottom if it is high enough; measured on open mouths, drawn and
# real.
_CAVITY_FADE = 0.05  # distance from a lip over which the cavity's paint fades in
_CAVITY_LIGHT, _TONGUE_LIGHT = 0.42, 0.88  # brightness at the top, and of the tongue
_TONGUE_TOP, _TONGUE_FULL = 0.35, 0.8  # depth, as a share of the cavity's height, from dark to the tongue's brightness
_TONGUE_HIDDEN, _TONGUE_SEEN = 0.1, 0.3  # heights of the cavity below and above which the tongue is hidden, visible
# Upper teeth, painted if the source shows nothing between its lips; measured on real mouths.
_SHOWS_NOTHING, _SHOWS_ITS_OWN = 0.0, 0.06  # height shown by the source at which painted teeth start to, and do, vanish
_TEETH_NARROW, _TEETH_WIDE = 0.06, 0.15  # length visible below the lip in a narrow and in a wide mouth
_NARROW_MOUTH, _WIDE_MOUTH = 0.8, 1.05  # width of the mouth relative to the source's, for these lengths
_ARCH = 0.3  # share of that length by which teeth are shorter at the corners
_LAST_TEETH = (0.05, 0.3)  # distance from the corner, as a share of the half width, over which teeth fade in
_TEETH_FADE = 0.02  # distance over which their lower edge fades
_TEETH_SATURATION = 0.85  # relative to the skin of the cheeks, whose brightness they have
_LIP_SHADOW_LIGHT, _LIP_SHADOW = 0.8, 0.06  # brightness right below the lip, and height of its shadow
_CHEEK_SHADOW = 0.5  # loss of brightness at the corners
_SEAMS = (0.0, 0.15, 0.265, 0.38)  # distances from the middle: incisors 8.5 and 6.5 mm wide, canines 7.5 mm
_SEAM_SHADOW, _SEAM_WIDTH = 0.35, 0.02  # loss of brightness at a seam between teeth, and its half width


@dataclass(frozen=True)
class Mouth(Opening):
    """A mouth of a batch of targets. The first paint, of the lips' colour, is for the cavity, the second for teeth."""

    teeth_length: Float[Tensor, "batch 1"]
    """Length of the teeth below the middle of the upper lip."""

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        along, height = self.axes.coordinates(places)
        column = self.column(along)
        start, end = column.cavity
        from_edges = torch.minimum(height - start, end - height)
        cavity = ramp(from_edges, 0.0, _CAVITY_FADE), self._light_of_cavity(height - start, end - start)
        own_teeth = ramp(column.shown, _SHOWS_NOTHING, _SHOWS_ITS_OWN)
        seen = (1 - own_teeth) * ramp(from_edges, 0.0, _LIP_FADE)
        teeth = seen * self._share_of_teeth(along, height), self._light_of_teeth(along, height - start)
        return torch.stack([torch.stack(layer, dim=-1) for layer in (cavity, teeth)], dim=-2)

    def _light_of_cavity(
        self, depth: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        low = ramp(depth / height.clamp_min(MIN_GAP), _TONGUE_TOP, _TONGUE_FULL)
        return _CAVITY_LIGHT + (_TONGUE_LIGHT - _CAVITY_LIGHT) * low * ramp(height, _TONGUE_HIDDEN, _TONGUE_SEEN)

    def _share_of_teeth(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        """Return the teeth's coverage; their lower edge is level and does not follow the lip."""
        aside, middle = self._aside(along), self.columns.shape[1] // 2
        edge = self.heights[:, 1, middle, None] + self.teeth_length * (1 - _ARCH * aside.square())
        return ramp(edge - height, 0.0, _TEETH_FADE) * ramp(1 - aside.abs(), *_LAST_TEETH)

    def _light_of_teeth(
        self, along: Float[Tensor, "batch places"], below_lip: Float[Tensor, "batch places"]
    ) -> Float[Tensor, "batch places"]:
        light = _LIP_SHADOW_LIGHT + (1 - _LIP_SHADOW_LIGHT) * ramp(below_lip, 0.0, _LIP_SHADOW)
        light = light * (1 - _CHEEK_SHADOW * self._aside(along).square())
        for seam in _SEAMS:
            from_seam = ((along - 0.5).abs() - seam).abs()
            light = light * (1 - _SEAM_SHADOW * (1 - ramp(from_seam, 0.0, _SEAM_WIDTH)))
        return light

    def _aside(self, along: Float[Tensor, "batch places"]) -> Float[Tensor, "batch places"]:
        """Return the signed distance from the middle, -1 and 1 at the inner corners."""
        return 2 * ramp(along, self.columns[:, :1], self.columns[:, -1:]) - 1


def find_mouth(source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"]) -> Mouth:
    """Return the mouth whose inner lips move to their heights in the source, relative to the lips' outlines."""
    _, wanted, outline_of_source = _lips(source)
    columns, edges, outline = _lips(target)
    top, bottom = outline.split(1, dim=1)
    top_of_source, bottom_of_source = outline_of_source.split(1, dim=1)
    stretch = (bottom - top).clamp_min(2 * _MIN_LIP) / (bottom_of_source - top_of_source).clamp_min(2 * _MIN_LIP)
    # Corners are not moved.
    inner_shifts = ((wanted - top_of_source) * stretch - (edges - top))[..., 1:-1]
    shifts = F.pad(inner_shifts, (1, 1))
    upper_limit = top.minimum(torch.minimum(edges, edges + shifts)[:, :1] - _MIN_LIP)
    lower_limit = bottom.maximum(torch.maximum(edges, edges + shifts)[:, 1:] + _MIN_LIP)
    lip_edges, lip_outlines = _UPPER_LIP + _LOWER_LIP, _UPPER_OUTLINE[2:-2] + _LOWER_OUTLINE[2:-2]
    return Mouth(
        axes_of(target, _CORNERS),
        columns=columns,
        heights=torch.cat([upper_limit, edges, lower_limit], dim=1),
        shifts=shifts,
        landmarks=_UPPER_LIP + _LOWER_LIP,
        landmark_shifts=inner_shifts.flatten(1),
        shown=torch.minimum(edges[:, 1] - edges[:, 0], _MAX_STRETCH * (wanted[:, 1] - wanted[:, 0])),
        paints=(
            Paint((pick(source, lip_edges) + pick(source, lip_outlines)) / 2),
            Paint(torch.stack([pick(source, cheek).mean(dim=1) for cheek in _CHEEKS], dim=1), _TEETH_SATURATION),
        ),
        teeth_length=_TEETH_NARROW
        + (_TEETH_WIDE - _TEETH_NARROW) * ramp(_width(target) / _width(source), _NARROW_MOUTH, _WIDE_MOUTH),
    )


def _lips(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns from one inner corner to the other, and the heights of inner edges and outlines in each."""
    axes = axes_of(points, _CORNERS)
    along, edges = edges_of(points, axes, _UPPER_LIP, _LOWER_LIP)
    (first, last), (start, end) = (each.split(1, dim=1) for each in axes.coordinates(pick(points, _INNER_CORNERS)))
    columns = torch.cat([first, along, last], dim=1)
    edges = torch.cat([start[:, None].expand(-1, 2, -1), edges, end[:, None].expand(-1, 2, -1)], dim=2)
    lines = (axes.coordinates(pick(points, line)) for line in (_UPPER_OUTLINE, _LOWER_OUTLINE))
    outline = [interpolate(columns, x.split(1, dim=1), y.split(1, dim=1)) for x, y in lines]
    return columns, edges, torch.stack(outline, dim=1)


def _width(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 1"]:
    """Return the mouth's width in distances of the eyes' outer corners."""
    mouth, eyes = ((points[:, ends[0]] - points[:, ends[1]]).norm(dim=-1, keepdim=True) for ends in (_CORNERS, _EYES))
    width: Tensor = (mouth / eyes.clamp_min(1e-6)).clamp_min(1e-6)
    return width
