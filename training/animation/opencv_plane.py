"""A shot as arrays, and the sampling of them at warped positions, with OpenCV.

`training.warp` does the same with tensors: what each step is for is explained there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from training.images import to_images
from training.warp.field import WarpField
from training.warp.hidden_half import DARK
from training.warp.matted_shot import DILATION_SIZE, NUM_BLURS, to_shots
from training.warp.openings import PaintLayer, PixelShifts

BORDER = cv2.BORDER_REPLICATE
"""Beyond a picture its edge is replicated."""


@dataclass(frozen=True)
class Openings:
    """What eyes and mouth of a batch move and paint, in pixels of a plane."""

    shifts: list[PixelShifts]
    paints: list[PaintLayer]

    @classmethod
    def of(cls, field: WarpField, side: int) -> "Openings":
        return cls(field.pixel_shifts(side), field.paint_layers(side))

    def within(self, part: slice, side: int) -> "Openings":
        """Return those in the middle part of the plane, whose side is given, in pixels of the part."""
        scale = side / (part.stop - part.start)
        shifts = [
            PixelShifts(*place, block.shifts[inside]) for block in self.shifts for place, inside in [_cut(block, part)]
        ]
        paints = [
            PaintLayer(*place, layer.paint, scale * layer.at, layer.coverage[inside], layer.light[inside])
            for layer in self.paints
            for place, inside in [_cut(layer, part)]
        ]
        return Openings(shifts, paints)


def _cut(block: PixelShifts | PaintLayer, part: slice) -> tuple[tuple[slice, slice], tuple[slice, slice, slice]]:
    """Return where a block of a plane lies in a square part of it, and which of its values lie there."""
    places, values = [], [slice(None)]
    for axis in (block.rows, block.columns):
        first, last = (min(max(edge, part.start), part.stop) for edge in (axis.start, axis.stop))
        places.append(slice(first - part.start, last - part.start))
        values.append(slice(first - axis.start, last - axis.start))
    return (places[0], places[1]), (values[0], values[1], values[2])


@dataclass(frozen=True)
class Plane:
    """A shot's pixels as arrays, and the sampling of them."""

    rgba: UInt8[np.ndarray, "side side 4"]
    background: UInt8[np.ndarray, "side side 3"]
    """Inpainted where the person hides it."""
    matte: Float32[np.ndarray, "side side"]
    spread: Float32[np.ndarray, "side side"]
    """The matte, dilated."""

    @classmethod
    def of(cls, pixels: UInt8[np.ndarray, "side side 3"], matte: UInt8[np.ndarray, "side side"]) -> "Plane":
        alpha = matte.astype(np.float32) / 255
        if matte.min() == 255:  # no background is seen, whatever moves
            return cls(np.dstack([pixels, matte]), pixels, alpha, alpha)
        shot = to_shots(pixels[None], matte[None], torch.device("cpu"))
        return cls(np.dstack([pixels, matte]), to_images(shot[:, 4:])[0], alpha, _spread(alpha))

    @property
    def side(self) -> int:
        return len(self.matte)

    def maps(self, field: WarpField, shifts: Sequence[PixelShifts]) -> list[Float32[np.ndarray, "side side 2"]]:
        """Return for each target the position in the shot of each pixel, as `WarpField.grid` does, in pixels."""
        side, scale = self.side, self.side / (2 * field.extent)
        return [
            _map(spline, side, scale, [(block, block.shifts[index].numpy()) for block in shifts])
            for index, spline in enumerate(field.spline.numpy())
        ]

    def warp(
        self, maps: Sequence[Float32[np.ndarray, "side side 2"]], layers: Sequence[PaintLayer], *, sharp: bool
    ) -> list[tuple[UInt8[np.ndarray, "side side 3"], Float32[np.ndarray, "side side"]]]:
        """Warp the person over the static background, as `warp_person` does; return frames and mattes.

        Args:
            sharp: interpolate by cubic polynomials, for display, instead of linearly.
        """
        warped = []
        for index, positions in enumerate(maps):
            source, at = (self._finer, 2 * positions) if sharp else (self.rgba, positions)
            sampled = cv2.remap(source, at, None, cv2.INTER_LINEAR, borderMode=BORDER)
            person = cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB)
            matte = cv2.extractChannel(sampled, 3) * np.float32(1 / 255)
            for layer in layers:
                self._paint(person, layer, index)
            warped.append((self._over_background(person, matte), matte))
        return warped

    def fill_mirrored(self, picture: UInt8[np.ndarray, "side side 3"], field: WarpField, index: int) -> None:
        """Replace what a picture of the batch shows of hidden skin by the mirrored half, as
        `training.warp.apply.fill_mirrored` does."""
        if field.mirrored is None or not field.mirrored.share[index].any():
            return
        size, spline = (self.side, self.side), field.mirrored.spline[index].numpy()
        share, gain = (
            cv2.resize(x[index].numpy(), size, interpolation=cv2.INTER_LINEAR)
            for x in (field.mirrored.share, field.mirrored.gain)
        )
        rows, columns = (np.flatnonzero(share.any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        positions = _map(spline, self.side, self.side / (2 * field.extent), ())[box]
        sampled = cv2.remap(self._finer, 2 * positions, None, cv2.INTER_LINEAR, borderMode=BORDER)
        person = ((sampled[..., :3] + np.float32(DARK)) * gain[box] - np.float32(DARK)).clip(0, 255)
        matte = sampled[..., 3:] * np.float32(1 / 255)
        filled = self._empty[box] + matte * (person - self._empty[box])
        old = picture[box]
        picture[box] = np.rint(old + share[box][..., None] * (filled - old))

    def _paint(self, person: UInt8[np.ndarray, "side side 3"], layer: PaintLayer, index: int) -> None:
        at = (layer.at[index].numpy() + 1) * (self.side / 2) - 0.5
        own = cv2.remap(self.rgba, at[None], None, cv2.INTER_LINEAR, borderMode=BORDER)[..., :3].mean(axis=(0, 1))
        colour = (own.mean() + layer.paint.saturation * (own - own.mean())).astype(np.float32)
        coverage, light = (x[index].numpy()[..., None] for x in (layer.coverage, layer.light))
        block = person[layer.rows, layer.columns].astype(np.float32)
        block += coverage * (light * colour - block)
        person[layer.rows, layer.columns] = np.rint(block.clip(0, 255))

    def _over_background(
        self, person: UInt8[np.ndarray, "side side 3"], matte: Float32[np.ndarray, "side side"]
    ) -> UInt8[np.ndarray, "side side 3"]:
        rest = 1 - matte
        uncovered = np.maximum(self.matte - matte, 0)
        uncovered /= np.maximum(rest, 1e-6)
        np.maximum(uncovered, self.spread - _spread(matte), out=uncovered)
        surroundings = cv2.blendLinear(self.background, self._frame, uncovered, 1 - uncovered)
        return np.asarray(cv2.blendLinear(person, surroundings, matte, rest))

    @cached_property
    def _finer(self) -> UInt8[np.ndarray, "finer finer 4"]:
        """The pixels, and those halfway between by cubic interpolation.

        Linear sampling of them is as sharp as cubic sampling of the pixels, and takes an eighth of its time.
        """
        halves = np.arange(2 * self.side - 1, dtype=np.float32) / 2
        x, y = np.meshgrid(halves, halves)
        return np.asarray(cv2.remap(self.rgba, x, y, cv2.INTER_CUBIC, borderMode=BORDER))

    @cached_property
    def _empty(self) -> UInt8[np.ndarray, "side side 3"]:
        """The picture without its person."""
        gone = np.maximum(self.matte, self.spread)
        return np.asarray(cv2.blendLinear(self.background, self._frame, gone, 1 - gone))

    @cached_property
    def _frame(self) -> UInt8[np.ndarray, "side side 3"]:
        return np.ascontiguousarray(self.rgba[..., :3])


def _map(
    spline: Float32[np.ndarray, "h w 2"],
    side: int,
    scale: float,
    shifts: Sequence[tuple[PixelShifts, np.ndarray]],
) -> Float32[np.ndarray, "side side 2"]:
    """Return sampling positions in pixels: each pixel, moved by the openings' shifts, then by the spline.

    Args:
        scale: pixels of a half-size of the crop, the unit of spline and shifts.
        shifts: blocks, and their displacements in this frame.
    """
    positions: np.ndarray = cv2.resize(spline, (side, side), interpolation=cv2.INTER_LINEAR)
    positions *= scale
    axis = np.arange(side, dtype=np.float32)
    positions[..., 0] += axis
    positions[..., 1] += axis[:, None]
    # A block that extends beyond the picture is cut off at its edge.
    placed = [(block.rows.start, block.columns.start, moves) for block, moves in shifts if moves.size]
    if not placed:
        return positions
    top, left = min(first for first, _, _ in placed), min(first for _, first, _ in placed)
    rows = slice(top, max(first + len(moves) for first, _, moves in placed))
    columns = slice(left, max(first + moves.shape[1] for _, first, moves in placed))
    opened = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 2), np.float32)
    for first, begin, moves in placed:
        opened[first - top : first - top + len(moves), begin - left : begin - left + moves.shape[1]] += moves
    opened *= scale
    opened[..., 0] += axis[columns]
    opened[..., 1] += axis[rows, None]
    # The spline is looked up where the openings have moved each pixel to.
    found = cv2.remap(spline, (opened + 0.5) * (len(spline) / side) - 0.5, None, cv2.INTER_LINEAR, borderMode=BORDER)
    positions[rows, columns] = opened + scale * found
    return positions


def _spread(matte: Float32[np.ndarray, "side side"]) -> Float32[np.ndarray, "side side"]:
    """Dilate and blur a matte, as `training.warp.matted_shot` does."""
    side, size = len(matte), min(DILATION_SIZE, len(matte))
    coarse = cv2.dilate(cv2.resize(matte, (size, size), interpolation=cv2.INTER_AREA), np.ones((3, 3), np.uint8))
    for _ in range(NUM_BLURS):
        coarse = cv2.blur(coarse, (3, 3), borderType=BORDER)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))
