"""The part of a picture that moves: a square around the face, in the middle of which is the networks' crop."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.crop import to_crop
from training.animation.upsample import feather
from training.avatars.portraits import Portrait
from training.config import ModelConfig
from training.images import resize_points
from training.warp.control_points import REACH

Picture = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Region:
    """A square of whole pixels of a picture; it may extend beyond the picture's edges.

    It is `REACH` times as large as the crop, beyond which nothing moves; without a warp prior it is the crop.
    """

    left: int
    top: int
    crop_side: int
    margin: int
    """Pixels between the edges of the region and of the crop."""

    @classmethod
    def around(cls, portrait: Portrait, config: ModelConfig) -> "Region":
        """Return the region around a portrait's face, by the model's crop rule."""
        affine = portrait.affine(config, 2)
        side = max(round(float(affine[0, 0])), 16) * 2
        left, top = (round(float(corner)) for corner in affine[:, 2] - 0.5 * affine[0, 0] + 0.5)
        margin = round(side * (REACH - 1) / 2) if config.warp_prior else 0
        return cls(left - margin, top - margin, side, margin)

    @property
    def side(self) -> int:
        return self.crop_side + 2 * self.margin

    @property
    def crop(self) -> slice:
        """The crop's rows, and columns, of the region."""
        return slice(self.margin, self.margin + self.crop_side)

    def cut(self, picture: Picture) -> UInt8[np.ndarray, "side side 3"]:
        """Cut the region out of a picture; beyond the picture its edge is replicated."""
        height, width = picture.shape[:2]
        rows = np.clip(np.arange(self.top, self.top + self.side), 0, height - 1)
        columns = np.clip(np.arange(self.left, self.left + self.side), 0, width - 1)
        return picture[rows[:, None], columns]

    def to_network(self, points: Float[np.ndarray, "*batch 68 2"], size: int) -> Float[np.ndarray, "*batch 68 2"]:
        """Convert landmarks from pixels of the picture to those of a network's input of `size` px."""
        affine = np.array([[1.0, 0.0, self.left + self.margin], [0.0, 1.0, self.top + self.margin]])
        return resize_points(to_crop(points, affine), size / self.crop_side)

    def paste(self, picture: Picture, pixels: UInt8[np.ndarray, "side side 3"]) -> Picture:
        """Return the picture with the region's pixels blended in: they fade out towards the region's border."""
        height, width = picture.shape[:2]
        pasted = picture.copy()
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        if top >= bottom or left >= right:
            return pasted
        pasted[top:bottom, left:right] = pixels[
            top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
        for rows, columns in self._frame:
            first, last = max(rows.start + self.top, 0), min(rows.stop + self.top, height)
            begin, end = max(columns.start + self.left, 0), min(columns.stop + self.left, width)
            if first >= last or begin >= end:
                continue
            share = self._mask[first - self.top : last - self.top, begin - self.left : end - self.left, None]
            old, new = picture[first:last, begin:end], pasted[first:last, begin:end]
            pasted[first:last, begin:end] = np.rint(share * new + (1 - share) * old).astype(np.uint8)
        return pasted

    @cached_property
    def _mask(self) -> Float[np.ndarray, "side side"]:
        return feather(self.side)

    @cached_property
    def _frame(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of four strips along the edges, outside of which the mask is 1."""
        side, solid = self.side, np.flatnonzero(self._mask[self.side // 2] == 1)
        first, last = (int(solid[0]), int(solid[-1]) + 1) if len(solid) else (side // 2, side // 2)
        whole, middle = slice(0, side), slice(first, last)
        above, below = slice(0, first), slice(last, side)
        return (above, whole), (below, whole), (middle, above), (middle, below)
