"""Warp and correct a shot's region with OpenCV and numpy, on a CPU.

`training.warp` does the same with tensors: what each step is for is explained there. OpenCV samples 8-bit pixels at
positions of 1/32 pixel, several times as fast as float tensors, and leaves out what does not move.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from pipelines.faces.person_matte import resize_matte
from training.animation.region import Region
from training.animation.region_warp import SourceShot, extend
from training.animation.upsample import fade_to_border, guided_coefficients
from training.config import ModelConfig
from training.images import resize_square, to_images
from training.models.generator import GeneratedFrame
from training.warp.field import WarpField
from training.warp.matted_shot import DILATION_SIZE, NUM_BLURS, to_shots
from training.warp.openings import PaintLayer, PixelShifts

_HALF = 127.5  # frames of networks are in [-1, 1], those here in [0, 255]


class OpenCvWarper:
    """Warps one shot: its crop for the generator, its region at the picture's own size."""

    def __init__(self, shot: SourceShot, region: Region, config: ModelConfig) -> None:
        inner, size = (region.crop, region.crop), min(region.crop_side, config.frame_size)
        self.size, self.inner = config.image_size, region.crop
        self.whole = Plane.of(shot.pixels, shot.matte)
        self.crop = Plane.of(resize_square(shot.pixels[inner], size), resize_matte(shot.matte[inner], size))
        self.landmark_image = np.ascontiguousarray(shot.landmark_image[0].permute(1, 2, 0).numpy())
        matte = cv2.resize(self.crop.matte, (self.size, self.size), interpolation=cv2.INTER_AREA)
        self.matte = torch.from_numpy(matte)[None, None]

    def __call__(self, field: WarpField) -> "OpenCvWarp":
        inner = field.inner
        maps = self.crop.maps(inner)
        pictures = self.crop.warp(maps, inner.paint_layers(self.crop.side), cv2.INTER_LINEAR)
        frame = self.to_network([each for each, _ in pictures], [matte for _, matte in pictures])
        small = [self.shrink_map(each, self.crop.side) for each in maps]
        images = [cv2.remap(self.landmark_image, m, None, cv2.INTER_LINEAR, borderMode=_BORDER) for m in small]
        return OpenCvWarp(self, field, inner, frame, _batch(images), _displacements(small, self.size))

    def to_network(self, pictures: Sequence[np.ndarray], mattes: Sequence[np.ndarray]) -> Float[Tensor, "batch 4 h w"]:
        """Average pictures in [0, 255] and mattes in [0, 1] down, as the generator's input."""
        size = (self.size, self.size)
        small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures]
        frames = _batch(small).div_(_HALF).sub_(1)
        alphas = np.stack([cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in mattes])
        return torch.cat([frames, torch.from_numpy(alphas)[:, None]], dim=1)

    def shrink_map(self, positions: Float32[np.ndarray, "side side 2"], side: int) -> Float32[np.ndarray, "h w 2"]:
        """Average positions in pixels of a crop of `side` px down to the networks' size, in pixels of that."""
        small = cv2.resize(positions, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray((small + 0.5) * (self.size / side) - 0.5, np.float32)


@dataclass
class OpenCvWarp:
    """A batch of warps of one shot: it is what the generator takes (`WarpInput`), and composes the frames."""

    warper: OpenCvWarper
    whole: WarpField
    field: WarpField
    frame: Float[Tensor, "batch 4 h w"]
    landmark_image: Float[Tensor, "batch 3 h w"]
    _displacement: Float[Tensor, "batch h w 2"]
    _pictures: list[UInt8[np.ndarray, "side side 3"]] = dataclasses.field(default_factory=list)
    _moved_displacement: Float[Tensor, "batch h w 2"] | None = None

    @property
    def warped(self) -> "OpenCvWarp":
        return self

    @property
    def matte(self) -> Float[Tensor, "batch 1 h w"]:
        return self.warper.matte.expand(len(self.frame), -1, -1, -1)

    def displacement(self, field: WarpField) -> Float[Tensor, "batch h w 2"]:
        """Return how far a field, this one or that of `moved`, moves each pixel."""
        if field is self.field or self._moved_displacement is None:
            return self._displacement
        return self._moved_displacement

    def moved(self, field: WarpField) -> Float[Tensor, "batch 4 h w"]:
        """Warp the whole region with another field of its crop, and return its crop."""
        warper = self.warper
        plane, inner = warper.whole, warper.inner
        extended = replace(self.whole, spline=extend(field.spline, self.whole))
        maps = plane.maps(extended)
        pictures = plane.warp(maps, extended.paint_layers(plane.side), cv2.INTER_CUBIC)
        self._pictures = [picture for picture, _ in pictures]
        side = inner.stop - inner.start
        small = [warper.shrink_map(each[inner, inner] - inner.start, side) for each in maps]
        self._moved_displacement = _displacements(small, warper.size)
        return warper.to_network(
            [picture[inner, inner] for picture, _ in pictures], [matte[inner, inner] for _, matte in pictures]
        )

    def compose(self, generated: GeneratedFrame) -> UInt8[np.ndarray, "batch side side 3"]:
        """See `training.animation.region_warp.RegionWarp`. The generator has called `moved` before."""
        assert generated.parts is not None
        moved = generated.parts.moved
        coefficients = guided_coefficients(fade_to_border(generated.frame - moved, 0), moved)
        gain, offset = (np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()) for x in coefficients)
        inner, side = self.warper.inner, self.warper.inner.stop - self.warper.inner.start
        for picture, gain_of_it, offset_of_it in zip(self._pictures, gain, offset, strict=True):
            a, b = (cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR) for x in (gain_of_it, offset_of_it))
            # f + a f + b of frames in [-1, 1], in [0, 255].
            b -= a
            b *= _HALF
            a += 1
            a *= picture[inner, inner]
            a += b
            picture[inner, inner] = cv2.convertScaleAbs(np.maximum(a, 0, out=a))
        return np.stack(self._pictures)


_BORDER = cv2.BORDER_REPLICATE


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
        shot, alpha = to_shots(pixels[None], matte[None], torch.device("cpu")), matte.astype(np.float32) / 255
        return cls(np.dstack([pixels, matte]), to_images(shot[:, 4:])[0], alpha, _spread(alpha))

    @property
    def side(self) -> int:
        return len(self.matte)

    def maps(self, field: WarpField) -> list[Float32[np.ndarray, "side side 2"]]:
        """Return for each target the position in the shot of each pixel, as `WarpField.grid` does, in pixels."""
        side, scale = self.side, self.side / (2 * field.extent)
        shifts = field.pixel_shifts(side)
        splines = field.spline.numpy()
        return [
            _map(spline, side, scale, [(b, b.shifts[i].numpy()) for b in shifts]) for i, spline in enumerate(splines)
        ]

    def warp(
        self, maps: Sequence[Float32[np.ndarray, "side side 2"]], layers: Sequence[PaintLayer], interpolation: int
    ) -> list[tuple[UInt8[np.ndarray, "side side 3"], Float32[np.ndarray, "side side"]]]:
        """Warp the person over the static background, as `warp_person` does; return frames and mattes."""
        warped = []
        for index, positions in enumerate(maps):
            sampled = cv2.remap(self.rgba, positions, None, interpolation, borderMode=_BORDER)
            person, matte = np.ascontiguousarray(sampled[..., :3]), sampled[..., 3] * np.float32(1 / 255)
            for layer in layers:
                self._paint(person, layer, index)
            warped.append((self._over_background(person, matte), matte))
        return warped

    def _paint(self, person: UInt8[np.ndarray, "side side 3"], layer: PaintLayer, index: int) -> None:
        at = (layer.at[index].numpy() + 1) * (self.side / 2) - 0.5
        own = cv2.remap(self.rgba, at[None], None, cv2.INTER_LINEAR, borderMode=_BORDER)[..., :3].mean(axis=(0, 1))
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
    found = cv2.remap(spline, (opened + 0.5) * (len(spline) / side) - 0.5, None, cv2.INTER_LINEAR, borderMode=_BORDER)
    positions[rows, columns] = opened + scale * found
    return positions


def _spread(matte: Float32[np.ndarray, "side side"]) -> Float32[np.ndarray, "side side"]:
    """Dilate and blur a matte, as `training.warp.matted_shot` does."""
    side, size = len(matte), min(DILATION_SIZE, len(matte))
    coarse = cv2.dilate(cv2.resize(matte, (size, size), interpolation=cv2.INTER_AREA), np.ones((3, 3), np.uint8))
    for _ in range(NUM_BLURS):
        coarse = cv2.blur(coarse, (3, 3), borderType=_BORDER)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))


def _displacements(maps: Sequence[Float32[np.ndarray, "h w 2"]], size: int) -> Float[Tensor, "batch h w 2"]:
    """Return positions minus those of the pixels themselves, in half-sizes of the crop."""
    axis = np.arange(size, dtype=np.float32)
    own = np.stack(np.meshgrid(axis, axis), axis=-1)
    return torch.from_numpy((np.stack(maps) - own) * np.float32(2 / size))


def _batch(pictures: Sequence[np.ndarray]) -> Float[Tensor, "batch channels h w"]:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().contiguous()
