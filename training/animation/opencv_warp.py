"""Warp and correct a shot's region with OpenCV and numpy, on a CPU.

`training.warp` does the same with tensors: what each step is for is explained there. OpenCV samples 8-bit pixels at
positions of 1/32 pixel, several times as fast as float tensors, and leaves out what does not move.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from pipelines.faces.person_matte import resize_matte
from training.animation.opencv_plane import BORDER, Openings, Plane
from training.animation.region import Region
from training.animation.region_warp import SourceShot, extend
from training.animation.upsample import GUIDE_EPS, feather
from training.config import ModelConfig
from training.images import resize_square
from training.models.generator import GeneratedFrame
from training.warp.field import WarpField

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
        self.fade = feather(self.size)[..., None]

    def __call__(self, field: WarpField) -> "OpenCvWarp":
        inner, openings = field.inner, Openings.of(field, self.whole.side)
        same_scale = self.crop.side == self.inner.stop - self.inner.start
        of_crop = openings.within(self.inner, self.whole.side) if same_scale else Openings.of(inner, self.crop.side)
        maps = self.crop.maps(inner, of_crop.shifts)
        pictures = self.crop.warp(maps, of_crop.paints, sharp=False)
        frame = self.to_network([each for each, _ in pictures], [matte for _, matte in pictures])
        small = [self.shrink_map(each, self.crop.side) for each in maps]
        images = [cv2.remap(self.landmark_image, m, None, cv2.INTER_LINEAR, borderMode=BORDER) for m in small]
        return OpenCvWarp(self, field, openings, inner, frame, _batch(images), _displacements(small, self.size))

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
    openings: Openings
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
        maps = plane.maps(self.whole.with_spline(extend(field.spline, self.whole)), self.openings.shifts)
        pictures = plane.warp(maps, self.openings.paints, sharp=True)
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
        moved, frames = (x.permute(0, 2, 3, 1).numpy() for x in (generated.parts.moved, generated.frame))
        inner, side = self.warper.inner, self.warper.inner.stop - self.warper.inner.start
        for index, (picture, frame, before) in enumerate(zip(self._pictures, frames, moved, strict=True)):
            coefficients = _guided_coefficients((frame - before) * self.warper.fade, before)
            a, b = (cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR) for x in coefficients)
            # f + a f + b of frames in [-1, 1], in [0, 255].
            b -= a
            b *= _HALF
            a += 1
            a *= picture[inner, inner]
            a += b
            picture[inner, inner] = cv2.convertScaleAbs(np.maximum(a, 0, out=a))
            self.warper.whole.fill_mirrored(picture, self.whole, index)
        return np.stack(self._pictures)


def _guided_coefficients(
    values: Float32[np.ndarray, "h w 3"], guide: Float32[np.ndarray, "h w 3"]
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w 3"]]:
    """Return a and b of the guided filter, as `training.animation.upsample.guided_coefficients` does.

    It averages over replicated borders, where the values are 0 anyway.
    """

    def mean(x: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
        return np.asarray(cv2.blur(x, (3, 3), borderType=BORDER))

    guide = np.ascontiguousarray(guide)
    mean_guide, mean_values = mean(guide), mean(values)
    a = mean(guide * values) - mean_guide * mean_values
    a /= mean(guide * guide) - mean_guide * mean_guide + GUIDE_EPS
    np.clip(a, -1, 1, out=a)
    return mean(a), mean(mean_values - a * mean_guide)


def _displacements(maps: Sequence[Float32[np.ndarray, "h w 2"]], size: int) -> Float[Tensor, "batch h w 2"]:
    """Return positions minus those of the pixels themselves, in half-sizes of the crop."""
    axis = np.arange(size, dtype=np.float32)
    own = np.stack(np.meshgrid(axis, axis), axis=-1)
    return torch.from_numpy((np.stack(maps) - own) * np.float32(2 / size))


def _batch(pictures: Sequence[np.ndarray]) -> Float[Tensor, "batch channels h w"]:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().contiguous()
