"""Warp and correct a shot's region with tensors, on any device."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from pipelines.faces.person_matte import resize_matte
from training.animation.region import Region
from training.animation.region_warp import SourceShot, extend
from training.animation.upsample import apply_correction
from training.config import ModelConfig
from training.images import resize_square, to_images
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpedShot, fill_mirrored, sample_half_pixels, warp_full_resolution, warp_with_field
from training.warp.control_points import REACH
from training.warp.field import WarpField
from training.warp.matted_shot import to_shots


class TorchWarper:
    """Warps one shot: its crop at the warp's size for the generator, its region at the picture's own size."""

    def __init__(self, shot: SourceShot, region: Region, config: ModelConfig, device: torch.device) -> None:
        inner, size = (region.crop, region.crop), config.frame_size
        self.whole = to_shots(shot.pixels[None], shot.matte[None], device)
        self.crop = to_shots(
            resize_square(shot.pixels[inner], size)[None], resize_matte(shot.matte[inner], size)[None], device
        )
        self.landmark_image = shot.landmark_image.to(device)
        self.half_pixels = sample_half_pixels(self.whole)
        self.border = round(config.image_size * (REACH - 1) / 2)

    def __call__(self, field: WarpField) -> "TorchWarp":
        batch = len(field.spline)
        crop, image = (x.expand(batch, -1, -1, -1) for x in (self.crop, self.landmark_image))
        return TorchWarp(warp_with_field(crop, image, field.inner), field, self)


@dataclass(frozen=True)
class TorchWarp:
    """A batch of warps of one shot."""

    warped: WarpedShot
    field: WarpField
    warper: TorchWarper

    def compose(self, generated: GeneratedFrame) -> UInt8[np.ndarray, "batch side side 3"]:
        """See `training.animation.region_warp.RegionWarp`."""
        assert generated.parts is not None
        field = self.field.with_spline(extend(generated.parts.field.spline, self.field))
        whole, half_pixels = (
            x.expand(len(field.spline), -1, -1, -1) for x in (self.warper.whole, self.warper.half_pixels)
        )
        fine = warp_full_resolution(whole, field, half_pixels)
        corrected = apply_correction(fine, generated.frame, generated.parts.moved, self.warper.border)
        return to_images(fill_mirrored(corrected, whole, field, half_pixels))
