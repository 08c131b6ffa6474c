"""Generate frames of a portrait with moved landmarks, at the resolution of the portrait."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines.faces.crop import to_crop
from pipelines.faces.landmark_image import rasterize_batch
from pipelines.faces.person_matte import PersonSegmenter, resize_matte
from training.animation.upsample import apply_correction, enlarge, fade_to_border, feather
from training.avatars.avatar import Avatar
from training.avatars.portraits import Portrait
from training.config import ModelConfig
from training.images import resize_points, resize_square, to_images
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpedShot, warp_full_resolution, warp_with_field
from training.warp.control_points import REACH, control_points
from training.warp.eyes import Gaze
from training.warp.field import warp_field
from training.warp.matted_shot import to_shots

_BATCH = 8


class Cancelled(Exception):
    """The caller cancelled; there is no output."""


class Animator:
    """Generates an avatar's canvas with its landmarks at `targets` (canvas pixels) and its gaze at `gaze`
    (`pipelines.faces.head_pose.gaze`; None: unchanged), in batches.

    There are two squares: the *crop*, which is the networks' input, and the *region* around it, `REACH` times as large,
    beyond which nothing moves. Without a warp prior they are the same.
    """

    def __init__(
        self,
        avatar: Avatar,
        canvas: Portrait,
        targets: Float[np.ndarray, "frames 68 2"],
        gaze: Float[np.ndarray, "frames 2 2"] | None = None,
    ) -> None:
        self.avatar, self.canvas, self.gaze = avatar, canvas, gaze
        self.network_seconds = 0.0
        size = avatar.config.image_size
        crop_side, crop_left, crop_top = _crop_square(canvas, avatar.config)
        self.reach = REACH if avatar.config.warp_prior else 1.0
        margin = round(crop_side * (self.reach - 1) / 2)
        self.crop = slice(margin, margin + crop_side)
        self.left, self.top, self.side = crop_left - margin, crop_top - margin, crop_side + 2 * margin
        self.mask = feather(self.side)
        cut = np.array([[1.0, 0.0, crop_left], [0.0, 1.0, crop_top]])
        self.targets, self.source = (
            resize_points(to_crop(points, cut), size / crop_side) for points in (targets, canvas.landmarks[None])
        )
        self.fine = _cut(canvas.image, self.left, self.top, self.side)
        inner = self.fine[self.crop, self.crop]
        matte = _matte(self.fine, canvas.landmarks - (self.left, self.top), avatar.config)
        coarse, frame_size, cpu = matte[self.crop, self.crop], avatar.config.frame_size, torch.device("cpu")
        self.fine_frame = to_shots(self.fine[None], matte[None], cpu)
        self.coarse_frame = to_shots(
            resize_square(inner, frame_size)[None], resize_matte(coarse, frame_size)[None], cpu
        )
        self.source_image = self._landmark_images(self.source)

    def shape(self, frame: Literal["full", "crop"]) -> tuple[int, int]:
        """Return height and width of the output: even, as H.264 requires."""
        shape = self.fine[self.crop, self.crop].shape if frame == "crop" else self.canvas.image.shape
        return shape[0] // 2 * 2, shape[1] // 2 * 2

    def frames(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
        """Yield the moving region of each frame; its part `[crop, crop]` is the networks' crop.

        Raises:
            Cancelled: `cancelled()` became true.
        """
        for first in range(0, len(self.targets), _BATCH):
            if cancelled():
                raise Cancelled
            yield from to_images(self.generate(slice(first, first + _BATCH)))

    @torch.inference_mode()
    def generate(self, frames: slice) -> Float[Tensor, "batch 3 side side"]:
        """Generate the region at the canvas's resolution for the given frames."""
        targets = self.targets[frames]
        size, batch = self.avatar.config.image_size, len(targets)
        images = self._landmark_images(targets)
        adain = self.avatar.adain_values.expand(batch, -1)
        if not self.avatar.config.warp_prior:
            return enlarge(self._timed(images, adain, None).frame, self.side)
        source = torch.from_numpy(control_points(self.source, size)).expand(batch, -1, -1)
        target = torch.from_numpy(control_points(targets, size))
        whole = warp_field(source, target, extent=REACH, gaze=self._gaze(frames))
        inner = whole.inner
        coarse_frame, source_image = (x.expand(batch, -1, -1, -1) for x in (self.coarse_frame, self.source_image))
        warped = warp_with_field(coarse_frame, source_image, inner)
        generated = self._timed(images, adain, warped)
        assert generated.parts is not None
        # Outside the crop, which is all that the network sees, only the warp determines the motion.
        change = (generated.parts.field.spline - inner.spline).permute(0, 3, 1, 2)
        field = replace(whole, spline=whole.spline + fade_to_border(change, whole.border).permute(0, 2, 3, 1))
        fine = warp_full_resolution(self.fine_frame.expand(batch, -1, -1, -1), field)
        return apply_correction(fine, generated.frame, generated.parts.moved, round(size * (REACH - 1) / 2))

    def _gaze(self, frames: slice) -> Gaze | None:
        if self.gaze is None or self.canvas.gaze is None:
            return None
        target = torch.from_numpy(self.gaze[frames])
        return Gaze(torch.from_numpy(self.canvas.gaze).expand_as(target), target)

    def _timed(self, images: Tensor, adain: Tensor, warped: WarpedShot | None) -> GeneratedFrame:
        started = time.perf_counter()
        generated: GeneratedFrame = self.avatar.generator(images, adain, warped)
        self.network_seconds += time.perf_counter() - started
        return generated

    def _landmark_images(self, points: Float[np.ndarray, "batch 68 2"]) -> Float[Tensor, "batch 3 h w"]:
        config = self.avatar.config
        return rasterize_batch(torch.from_numpy(points), config.image_size, config.raster)

    def paste(self, region: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Blend the generated region into the whole picture."""
        picture = self.canvas.image.copy()
        height, width = picture.shape[:2]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        rows, columns = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        share = self.mask[rows, columns, None]
        old = picture[top:bottom, left:right]
        picture[top:bottom, left:right] = np.rint(share * region[rows, columns] + (1 - share) * old).astype(np.uint8)
        return picture


def _crop_square(canvas: Portrait, config: ModelConfig) -> tuple[int, int, int]:
    """Return side (even), left and top of the model's crop of the canvas, in whole pixels."""
    affine = canvas.affine(config, 2)
    side = max(round(float(affine[0, 0])), 16) * 2
    left, top = affine[:, 2] - 0.5 * affine[0, 0] + 0.5
    return side, round(float(left)), round(float(top))


def _matte(
    image: UInt8[np.ndarray, "side side 3"], landmarks: Float[np.ndarray, "68 2"], config: ModelConfig
) -> UInt8[np.ndarray, "side side"]:
    if not config.warp_prior:
        return np.full_like(image[..., 0], 255)
    return PersonSegmenter().matte(image, landmarks)


def _cut(
    image: UInt8[np.ndarray, "height width 3"], left: int, top: int, side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Cut out a square; beyond the image the edge is replicated."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns]
