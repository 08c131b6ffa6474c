"""Eyes that shut, open and turn.

Lids slide over the eye, and irises go where they are to lie in the target: an iris moves as a whole, the white beside
it is stretched and squeezed, and lids stay. Of an iris at the corner of its eye, the part that the corner hides is its
mirror image; where there was hardly any white it is painted, in the colour of the white on the other side.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.warp.openings import EYES, MIN_GAP, Opening, Paint, axes_of, edges_of, interpolate, ramp

# In widths of the eye, corner to corner:
_ABOVE_LID, _BELOW_LID = 0.35, 0.25  # how far from a lid its skin moves along
_SHUT = 0.06  # what a detector still sees between lids that touch
_RIM = 0.06  # of the lower lid, that the lashes of the upper one cover when it is shut
_RADIUS = 0.22  # of an iris: 5.9 mm in an eye of 27
_LID = 0.04  # beyond a lid: so far what is between the lids reaches at times, and turns less and less
_LID_EDGE = 0.03
_CORNER = 0.03  # what lies so near to a corner is no iris any more
_SHADE = 0.15  # from a lid inwards: there the white is shaded
_SHADED = 0.8
_LEAST_WHITE, _WHITE = 0.05, 0.12  # on the wider side: with less there is no colour to paint with
_DRAWN_OUT = 2.0  # how far white is stretched before it is painted
_PAINTED = 0.12  # of white that is lacking, all is painted
_OPEN_FROM, _OPEN = 0.08, 0.16  # between the lids of the source: those of a shut eye hide its iris
# Shares of the source's opening: an eye that shuts turns no more.
_SEES_FROM, _SEES = 0.25, 0.5


@dataclass(frozen=True)
class Gaze:
    """Where the irises of both eyes lie in a batch of shots, and where they are to lie
    (`pipelines.faces.head_pose.gaze`)."""

    source: Float[Tensor, "batch 2 2"]
    target: Float[Tensor, "batch 2 2"]

    def __getitem__(self, index: Tensor | slice) -> "Gaze":
        return Gaze(self.source[index], self.target[index])


@dataclass(frozen=True)
class TurningEye(Opening):
    """An eye of a batch of targets with its iris where it is to lie."""

    before: Float[Tensor, "batch 2"]
    """Where the lids alone leave the middle of the iris: across, and downwards."""
    after: Float[Tensor, "batch 2"]

    @classmethod
    def of(
        cls,
        eye: Opening,
        source: Float[Tensor, "batch 68 2"],
        corners: list[int],
        iris: Float[Tensor, "batch 2"],
        target_iris: Float[Tensor, "batch 2"],
    ) -> "TurningEye":
        """An eye that lids alone move, turned as far as it is open.

        Args:
            source: landmarks of the shots, and their irises in their eyes.
        """
        along, height = iris.split(1, dim=1)
        column, middle = eye.column(along), eye.column(torch.full_like(along, 0.5))
        share = (height - column.above - column.upper) / column.gap_of_source
        before = torch.cat([along, column.above + share * column.gap], dim=1)
        sees = ramp(middle.gap_of_source, _OPEN_FROM, _OPEN)
        sees = sees * ramp(middle.gap / middle.gap_of_source, _SEES_FROM, _SEES)
        after = before + sees * (target_iris - before)
        axes, white = axes_of(source, corners), _middle_of_white(along)
        column = eye.column(white)
        low = (column.above + column.upper + column.below + column.lower) / 2
        paint = Paint(axes.corner + white[..., None] * axes.across + low[..., None] * axes.down)
        return cls(**vars(eye) | {"paints": (paint,)}, before=before, after=after)

    def shift(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places 2"]:
        along, height = self.axes.coordinates(places)
        along_before, height_before = self._turned_back(along, height)
        across, down = along_before - along, height_before - height + self.vertical_shift(along_before, height_before)
        return across[..., None] * self.axes.across + down[..., None] * self.axes.down

    def paint_coverage(self, places: Float[Tensor, "batch places 2"]) -> Float[Tensor, "batch places paints 2"]:
        along, height = self.axes.coordinates(places)
        column = self.column(along)
        from_lids = torch.minimum(height - column.above, column.below - height)
        (left, right), (left_after, right_after) = (_whites(middle) for middle in (self.before, self.after))
        x, y = self.after.split(1, dim=1)
        chord = _half_chord(height - y)
        lacking_left = _lacking(left, left_after) * ramp(x - chord - along, 0.0, _LID_EDGE)
        lacking_right = _lacking(right, right_after) * ramp(along - x - chord, 0.0, _LID_EDGE)
        known = ramp(torch.maximum(left, right), _LEAST_WHITE, _WHITE)
        share = known * torch.maximum(lacking_left, lacking_right) * ramp(from_lids, 0.0, _LID_EDGE)
        return torch.stack([share, _SHADED + (1 - _SHADED) * ramp(from_lids, 0.0, _SHADE)], dim=-1)[:, :, None]

    def _turned_back(
        self, along: Float[Tensor, "batch places"], height: Float[Tensor, "batch places"]
    ) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """Where each place lies as long as the eye is not turned."""
        (x, y), (x_after, y_after) = (middle.split(1, dim=1) for middle in (self.before, self.after))
        column = self.column(along)
        from_upper, from_lower = height - column.above, column.below - height
        inside = ramp(torch.minimum(from_upper, from_lower), -_LID, 0.0)
        inside = inside * ramp(torch.minimum(along, 1 - along), 0.0, _LID)
        corner, other, chord = torch.zeros_like(x), torch.ones_like(x), _half_chord(height - y_after)
        edges_before, edges_after = (
            ((middle - chord).clamp_min(0), (middle + chord).clamp_max(1)) for middle in (x, x_after)
        )
        from_middle = along - x_after
        of_iris = x + from_middle
        of_iris = torch.where((of_iris < _CORNER) | (of_iris > 1 - _CORNER), x - from_middle, of_iris)
        of_white = interpolate(along, (corner, *edges_after, other), (corner, *edges_before, other))
        along_before = torch.where(from_middle.abs() < chord, of_iris, of_white)
        along_before = along + inside * (along_before - along)
        top, bottom = y_after - _RADIUS, y_after + _RADIUS
        rows = top.minimum(column.above), top, bottom, bottom.maximum(column.below)
        falls = corner, other, other, corner
        moved = interpolate(along, (corner, *edges_after, other), falls) * interpolate(height, rows, falls)
        # What the lids of the source hide is not known: beside a lid stays what lies beside it.
        behind = self.column(along_before)
        height_before = (height + moved * (y - y_after)).clamp(
            behind.above + from_upper.clamp_max(_LID_EDGE), behind.below - from_lower.clamp_max(_LID_EDGE)
        )
        return along_before, height + inside * (height_before - height)


def find_eyes(
    source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"], gaze: Gaze | None = None
) -> list[Opening]:
    """Both, of landmarks `in_order`, in any unit; without a gaze they do not turn."""
    eyes: list[Opening] = [_find_eye(source, target, *eye) for eye in EYES]
    if gaze is None:
        return eyes
    irises = zip(gaze.source.unbind(1), gaze.target.unbind(1), strict=True)
    return [
        TurningEye.of(eye, source, corners, *iris) for eye, (corners, *_), iris in zip(eyes, EYES, irises, strict=True)
    ]


def _find_eye(source: Tensor, target: Tensor, corners: list[int], upper: list[int], lower: list[int]) -> Opening:
    """The lids go where the source has them between its corners."""
    axes = axes_of(target, corners)
    _, wanted = edges_of(source, axes_of(source, corners), upper, lower)
    along, found = edges_of(target, axes, upper, lower)
    shut = (1 - (found[:, 1] - found[:, 0]) / (wanted[:, 1] - wanted[:, 0]).clamp_min(MIN_GAP)).clamp_min(0)
    half_gap = ((found[:, 1] - found[:, 0] - _SHUT * shut) / 2).clamp_min(MIN_GAP / 2)
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


def _whites(iris: Float[Tensor, "batch 2"]) -> tuple[Float[Tensor, "batch 1"], Float[Tensor, "batch 1"]]:
    """How much white there is at the left and at the right of an iris."""
    middle = iris[:, :1]
    return (middle - _RADIUS).clamp_min(0), (1 - middle - _RADIUS).clamp_min(0)


def _half_chord(height: Float[Tensor, "batch places"]) -> Float[Tensor, "batch places"]:
    """From the middle of an iris to its edge sidewards, so much above or below its middle."""
    return (_RADIUS**2 - height.square()).clamp_min(0).sqrt()


def _middle_of_white(along: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 3"]:
    """Three places in the middle of the wider white beside an iris."""
    at_left, at_right = (along - _RADIUS) / 2, (1 + along + _RADIUS) / 2
    middle = torch.where(at_left > 1 - at_right, at_left, at_right)
    return middle + middle.new_tensor([-0.03, 0.0, 0.03])


def _lacking(white: Float[Tensor, "batch 1"], wanted: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
    """How far the white on one side would have to be stretched too much: 1, it is painted; 0, it is shown."""
    return ramp(wanted - _DRAWN_OUT * white, 0.0, _PAINTED)
