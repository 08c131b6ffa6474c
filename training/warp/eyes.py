"""Eyes: closing and opening lids, and turning the gaze.

Lids slide over the eye. An iris is moved as a whole to its target position; the white beside it is stretched and
compressed, and the lids stay. The part of an iris that the source's corner of the eye hides is filled with the mirror
image of the other part; white that the source hardly shows is painted in the colour of the white on the other side.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.warp.openings import EYES, MIN_GAP, Opening, Paint, axes_of, edges_of, interpolate, ramp

# Lengths are in widths of the eye, from corner to corner. Lids:
_SKIN_ABOVE, _SKIN_BELOW = 0.35, 0.25  # distance from a lid over which the skin moves with it
_CLOSED_GAP = 0.06  # gap that a detector reports between lids that touch
_LASH_OVERLAP = 0.06  # height of the lower lid that the upper lashes cover when the eye is shut
_LID_MARGIN = 0.03  # rows this close to a lid are not moved past it; paint fades in over the same distance
_LID_BLEND = 0.04  # distance beyond a lid, where the eyeball still shows at times, over which turning falls to zero
# Iris:
_IRIS_RADIUS = 0.22  # 5.9 mm in an eye of 27 mm
_CORNER_MARGIN = 0.03  # what is this close to a corner of the eye is not part of the iris
# Lids' gap in the source from which the eye turns, and at which it turns fully: lids of a shut eye hide its iris.
_TURN_FROM_GAP, _FULL_TURN_GAP = 0.08, 0.16
# The same for the target's gap, as a share of the source's: an eye that shuts turns less.
_TURN_FROM_OPENNESS, _FULL_TURN_OPENNESS = 0.25, 0.5
# White of the eye, painted where the source does not show enough of it:
_MIN_WHITE, _FULL_WHITE = 0.05, 0.12  # width of the wider side's white at which its colour starts to be, and is, known
_MAX_STRETCH = 2.0  # factor by which visible white is stretched before the rest is painted
_FULL_PAINT = 0.12  # width of missing white at which the share of paint is 1
_SHADE_DEPTH = 0.15  # distance from a lid over which the white is shaded
_SHADE_LIGHT = 0.8  # brightness at the lid, relative to the paint


@dataclass(frozen=True)
class Gaze:
    """Positions of both irises in a batch of shots and in the targets (`pipelines.faces.head_pose.gaze`)."""

    source: Float[Tensor, "batch 2 2"]
    target: Float[Tensor, "batch 2 2"]

    def __getitem__(self, index: Tensor | slice) -> "Gaze":
        return Gaze(self.source[index], self.target[index])


@dataclass(frozen=True)
class TurningEye(Opening):
    """An eye of a batch of targets, with its iris moved to the target position."""

    before: Float[Tensor, "batch 2"]
    """Centre of the iris (across, down) when only the lids move."""
    after: Float[Tensor, "batch 2"]
    """Centre of the iris in the target."""

    @classmethod
    def of(
        cls,
        eye: Opening,
        source: Float[Tensor, "batch 68 2"],
        corners: list[int],
        iris: Float[Tensor, "batch 2"],
        target_iris: Float[Tensor, "batch 2"],
    ) -> "TurningEye":
        """Add the turn of the gaze to an eye; the less open the eye, the less it turns.

        Args:
            source: landmarks of the shots.
            corners: indices of the eye's corners.
            iris: position of the iris in the shots' eyes.
            target_iris: position in the targets' eyes.
        """
        along, height = iris.split(1, dim=1)
        column, middle = eye.column(along), eye.column(torch.full_like(along, 0.5))
        share = (height - column.above - column.upper) / column.gap_of_source
        before = torch.cat([along, column.above + share * column.gap], dim=1)
        turn = ramp(middle.gap_of_source, _TURN_FROM_GAP, _FULL_TURN_GAP)
        turn = turn * ramp(middle.gap / middle.gap_of_source, _TURN_FROM_OPENNESS, _FULL_TURN_OPENNESS)
        after = before + turn * (target_iris - before)
        axes, white = axes_of(source, corners), _centre_of_white(along)
        column = eye.column(white)
        low = (column.above + column.upper + column.below + column.lower) / 2
        paint = Paint(axes.corner + white[..., None] * axes.across + low[..., None] * axes.down)
        return cls(**vars(eye) | {"paints": (paint,)}, before=before, after=after)

    def shift(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        along, height = self.axes.coordinates(places)
        along_before, height_before = self._before_turning(along, height)
        across, down = along_before - along, height_before - height + self.vertical_shift(along_before, height_before)
        return across[..., None] * self.axes.across + down[..., None] * self.axes.down

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        along, height = self.axes.coordinates(places)
        column = self.column(along)
        from_lids = torch.minimum(height - column.above, column.below - height)
        (left, right), (left_after, right_after) = (_white_widths(middle) for middle in (self.before, self.after))
        x, y = self.after.split(1, dim=1)
        chord = _half_chord(height - y)
        lacking_left = _paint_share(left, left_after) * ramp(x - chord - along, 0.0, _LID_MARGIN)
        lacking_right = _paint_share(right, right_after) * ramp(along - x - chord, 0.0, _LID_MARGIN)
        known = ramp(torch.maximum(left, right), _MIN_WHITE, _FULL_WHITE)
        share = known * torch.maximum(lacking_left, lacking_right) * ramp(from_lids, 0.0, _LID_MARGIN)
        return torch.stack([share, _SHADE_LIGHT + (1 - _SHADE_LIGHT) * ramp(from_lids, 0.0, _SHADE_DEPTH)], dim=-1)[
            :, :, None
        ]

    def _before_turning(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """Return the position of each point before the eye turns."""
        (x, y), (x_after, y_after) = (middle.split(1, dim=1) for middle in (self.before, self.after))
        column = self.column(along)
        from_upper, from_lower = height - column.above, column.below - height
        inside = ramp(torch.minimum(from_upper, from_lower), -_LID_BLEND, 0.0)
        inside = inside * ramp(torch.minimum(along, 1 - along), 0.0, _LID_BLEND)
        corner, other, chord = torch.zeros_like(x), torch.ones_like(x), _half_chord(height - y_after)
        edges_before, edges_after = (
            ((middle - chord).clamp_min(0), (middle + chord).clamp_max(1)) for middle in (x, x_after)
        )
        from_middle = along - x_after
        of_iris = x + from_middle
        of_iris = torch.where((of_iris < _CORNER_MARGIN) | (of_iris > 1 - _CORNER_MARGIN), x - from_middle, of_iris)
        of_white = interpolate(along, (corner, *edges_after, other), (corner, *edges_before, other))
        along_before = torch.where(from_middle.abs() < chord, of_iris, of_white)
        along_before = along + inside * (along_before - along)
        top, bottom = y_after - _IRIS_RADIUS, y_after + _IRIS_RADIUS
        rows = top.minimum(column.above), top, bottom, bottom.maximum(column.below)
        falls = corner, other, other, corner
        moved = interpolate(along, (corner, *edges_after, other), falls) * interpolate(height, rows, falls)
        # The source hides what is under its lids: points beside a lid stay beside it.
        behind = self.column(along_before)
        height_before = (height + moved * (y - y_after)).clamp(
            behind.above + from_upper.clamp_max(_LID_MARGIN), behind.below - from_lower.clamp_max(_LID_MARGIN)
        )
        return along_before, height + inside * (height_before - height)


def find_eyes(
    source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"], gaze: Gaze | None = None
) -> list[Opening]:
    """Return both eyes, from landmarks after `uncross_edges`, in any unit; without a gaze they do not turn."""
    eyes: list[Opening] = [_find_eye(source, target, *eye) for eye in EYES]
    if gaze is None:
        return eyes
    irises = zip(gaze.source.unbind(1), gaze.target.unbind(1), strict=True)
    return [
        TurningEye.of(eye, source, corners, *iris) for eye, (corners, *_), iris in zip(eyes, EYES, irises, strict=True)
    ]


def _find_eye(source: Tensor, target: Tensor, corners: list[int], upper: list[int], lower: list[int]) -> Opening:
    """Return the eye whose lids move to their heights in the source, relative to the corners."""
    axes = axes_of(target, corners)
    _, wanted = edges_of(source, axes_of(source, corners), upper, lower)
    along, found = edges_of(target, axes, upper, lower)
    shut = (1 - (found[:, 1] - found[:, 0]) / (wanted[:, 1] - wanted[:, 0]).clamp_min(MIN_GAP)).clamp_min(0)
    half_gap = ((found[:, 1] - found[:, 0] - _CLOSED_GAP * shut) / 2).clamp_min(MIN_GAP / 2)
    middle = found.mean(dim=1)
    asked = torch.stack([middle - half_gap, middle + half_gap], dim=1)
    hidden = wanted + F.pad((_LASH_OVERLAP * shut)[:, None], (0, 0, 1, 0))
    edges, settled = (F.pad(heights, (1, 1)) for heights in (asked, hidden))
    upper_limit = torch.minimum(edges, settled)[:, :1] - _SKIN_ABOVE
    lower_limit = torch.maximum(edges, settled)[:, 1:] + _SKIN_BELOW
    return Opening(
        axes,
        columns=torch.cat([torch.zeros_like(along[:, :1]), along, torch.ones_like(along[:, :1])], dim=1),
        heights=torch.cat([upper_limit, edges, lower_limit], dim=1),
        shifts=settled - edges,
        landmarks=upper + lower,
        landmark_shifts=(wanted - found).flatten(1),
        shown=edges[:, 1] - edges[:, 0],
    )


def _white_widths(iris: Float[Tensor, "batch 2"]) -> tuple[Float[Tensor, "batch 1"], Float[Tensor, "batch 1"]]:
    """Return the widths of the white at the left and at the right of an iris."""
    middle = iris[:, :1]
    return (middle - _IRIS_RADIUS).clamp_min(0), (1 - middle - _IRIS_RADIUS).clamp_min(0)


def _half_chord(height: Float[Tensor, "batch places"]) -> Float[Tensor, "batch places"]:
    """Return half of the iris's width at `height` above or below its centre."""
    return (_IRIS_RADIUS**2 - height.square()).clamp_min(0).sqrt()


def _centre_of_white(along: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 3"]:
    """Return three positions in the middle of the wider white beside an iris."""
    at_left, at_right = (along - _IRIS_RADIUS) / 2, (1 + along + _IRIS_RADIUS) / 2
    middle = torch.where(at_left > 1 - at_right, at_left, at_right)
    return middle + middle.new_tensor([-0.03, 0.0, 0.03])


def _paint_share(white: Float[Tensor, "batch 1"], wanted: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
    """Return the share of paint in the white on one side: 0 if stretching it suffices, 1 if it is all painted."""
    return ramp(wanted - _MAX_STRETCH * white, 0.0, _FULL_PAINT)
