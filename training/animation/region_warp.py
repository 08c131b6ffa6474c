"""What draws a batch of frames of one shot: warps it as the generator's input, and corrects it at full resolution.

There are two: `training.animation.torch_warp`, of tensors on any device, and `training.animation.opencv_warp`, of
arrays, which a CPU computes several times as fast. They draw the same picture to the rounding of 8 bits on nearly all
pixels (tests/training/animation/test_region_warp.py).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from training.animation.upsample import fade_to_border
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.field import WarpField


@dataclass(frozen=True)
class SourceShot:
    """A shot to warp: the pixels of its region, the person's matte, and landmarks in pixels of the networks' input."""

    pixels: UInt8[np.ndarray, "side side 3"]
    matte: UInt8[np.ndarray, "side side"]
    landmarks: Float[np.ndarray, "68 2"]
    landmark_image: Float[Tensor, "1 3 h w"]
    gaze: Float[np.ndarray, "2 2"] | None = None


class RegionWarp(Protocol):
    """One batch: the generator's input, and the frames that follow from its output."""

    @property
    def warped(self) -> WarpInput:
        """The warped shot, for the generator."""
        ...

    def compose(self, generated: GeneratedFrame) -> UInt8[np.ndarray, "batch side side 3"]:
        """Warp the region as the generator has decided, and add its correction at full resolution."""
        ...


class RegionWarper(Protocol):
    """Warps one shot to batches of targets."""

    def __call__(self, field: WarpField) -> RegionWarp:
        """Prepare a batch. `field` covers the whole region."""
        ...


def extend(spline: Float[Tensor, "batch inner inner 2"], whole: WarpField) -> Float[Tensor, "batch h w 2"]:
    """Return the region's spline with that of its crop replaced, fading to the old one at the crop's border.

    The network sees the crop only; outside, the warp alone determines the motion.
    """
    change = (spline - whole.inner.spline).permute(0, 3, 1, 2)
    return whole.spline + fade_to_border(change, whole.border).permute(0, 2, 3, 1)
