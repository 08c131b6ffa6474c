"""Generate frames of a portrait with moved landmarks, at the resolution of the portrait."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from training.animation.joint.mix import mix_shots
from training.animation.joint.parts import BATCH, Part, draw_batch, draw_parts
from training.animation.opencv_warp import OpenCvWarper
from training.animation.region import Picture, Region
from training.animation.region_warp import RegionWarper, SourceShot
from training.animation.shots.canvas_shots import ShotMaker
from training.animation.shots.choice import ShotShares, choose_shots, shot_distances
from training.animation.shots.openings import choose_openings
from training.animation.torch_warp import TorchWarper
from training.avatars.avatar import Avatar
from training.avatars.portraits import shrink_portrait
from training.config import ModelConfig, Precision
from training.images import resize_square
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.mirrored_light import mirrored_gain

_KEPT_WARPERS = 8  # of shots; one of a region of 1500 px takes 70 MB
_CPU = torch.device("cpu")


class Cancelled(Exception):
    """The caller cancelled; there is no output."""


class Animator:
    """Generates frames of an avatar on a device, in batches.

    Each frame starts from the picture of the avatar that suits it, set on the canvas (`Avatar.canvas`).
    """

    def __init__(
        self,
        avatar: Avatar,
        *,
        max_size: int | None = None,
        device: torch.device = _CPU,
        precision: Precision = "float32",
    ) -> None:
        """Prepare an avatar's pictures.

        Args:
            max_size: the pictures are shrunk to this length of the longer side; None: not.
            precision: data type of the networks' activations; all else is float32.
        """
        self.config, self.device, self.precision = avatar.config, device, precision
        self.generator, self.adain_values = avatar.generator.to(device), avatar.adain_values.to(device)
        self.model = avatar.base_version
        self.network_seconds = 0.0
        pictures = [shrink_portrait(portrait, max_size) for portrait in avatar.portraits]
        self.canvas = pictures.pop(avatar.canvas_index)
        self.region = Region.around(self.canvas, avatar.config)
        maker = ShotMaker(self.canvas, self.region, avatar.config)
        further = pictures if avatar.config.warp_prior else []
        self.shots = [maker.base, *map(maker.shot, further)]
        self.names = [self.canvas.name, *(portrait.name for portrait in further)]
        self._warper = lru_cache(_KEPT_WARPERS)(self._make_warper)
        self._mirrored_gain = lru_cache(None)(self._measure_mirrored_gain)

    def choose_shots(self, targets: Float[np.ndarray, "frames 68 2"], fps: float | None) -> ShotShares:
        """Return the share of each shot in each frame: in its head, mouth and eyes.

        Args:
            targets: landmarks in pixels of the canvas.
            fps: frame rate; None if the frames do not follow each other: each then takes its nearest shot.
        """
        size = self.config.image_size
        landmarks, inputs = np.stack([shot.landmarks for shot in self.shots]), self.region.to_network(targets, size)
        head = choose_shots(shot_distances(landmarks, inputs, size), fps)
        if len(self.shots) == 1:
            return ShotShares(head)
        return ShotShares(head, choose_openings(landmarks, inputs, size, head, fps))

    def frames(
        self,
        targets: Float[np.ndarray, "frames 68 2"],
        gaze: Float[np.ndarray, "frames 2 2"] | None,
        shares: ShotShares,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
        """Yield the region of each frame.

        Args:
            targets: landmarks in pixels of the canvas.
            gaze: `pipelines.faces.head_pose.gaze` of each frame; None: unchanged.
            shares: of `choose_shots`.

        Raises:
            Cancelled: `cancelled()` became true.
        """
        for first in range(0, len(targets), BATCH):
            if cancelled():
                raise Cancelled
            batch = slice(first, first + BATCH)
            parts, which = self.parts(targets[batch], None if gaze is None else gaze[batch], shares[batch])
            yield from self.mixed(draw_parts(parts), which, targets[batch], shares[batch])

    def parts(
        self, targets: Float[np.ndarray, "batch 68 2"], gaze: Float[np.ndarray, "batch 2 2"] | None, shares: ShotShares
    ) -> tuple[list[Part], list[Int[np.ndarray, " _"]]]:
        """Return what is to be drawn from each shot, and which of the frames that is.

        Args:
            targets: landmarks in pixels of the canvas.
        """
        inputs, used = self.region.to_network(targets, self.config.image_size), shares.used
        which = {int(shot): np.flatnonzero(used[:, shot]) for shot in np.flatnonzero(used.any(axis=0))}
        parts = [
            Part(self, shot, inputs[frames], None if gaze is None else gaze[frames]) for shot, frames in which.items()
        ]
        return parts, list(which.values())

    def mixed(
        self,
        drawn: Sequence[Sequence[UInt8[np.ndarray, "side side 3"]]],
        which: Sequence[Int[np.ndarray, " _"]],
        targets: Float[np.ndarray, "batch 68 2"],
        shares: ShotShares,
    ) -> Sequence[UInt8[np.ndarray, "side side 3"]]:
        """Return the frames whose `parts` were drawn, see `mix_shots`."""
        return mix_shots(drawn, which, shares, targets - np.array([self.region.left, self.region.top], np.float32))

    def draw(
        self, shot: int, targets: Float[np.ndarray, "batch 68 2"], gaze: Float[np.ndarray, "batch 2 2"] | None
    ) -> Sequence[UInt8[np.ndarray, "side side 3"]]:
        """Draw the region of frames that start from one shot, as one batch.

        Args:
            targets: landmarks in pixels of the networks' input.
        """
        return draw_batch([Part(self, shot, targets, gaze)])

    def warper(self, shot: int) -> RegionWarper:
        """Return what warps a shot."""
        return self._warper(shot)

    def mirrored_gain(self, shot: int) -> Float[Tensor, "1 3"]:
        """Return the light of a shot's one half of the face by that of the other (`warp.mirrored_light`)."""
        return self._mirrored_gain(shot)

    def _make_warper(self, shot: int) -> RegionWarper:
        return make_warper(self.shots[shot], self.region, self.config, self.device)

    def _measure_mirrored_gain(self, shot: int) -> Float[Tensor, "1 3"]:
        source, crop = self.shots[shot], (self.region.crop, self.region.crop)
        size = self.config.image_size
        gain = mirrored_gain(resize_square(source.pixels[crop], size), source.landmarks)
        return torch.from_numpy(gain).to(self.device)[None]

    def generate(self, images: Tensor, adain: Tensor, warped: WarpInput | None) -> GeneratedFrame:
        """Run the generator, and add its time to `network_seconds`."""
        started = time.perf_counter()
        is_reduced = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if is_reduced else nullcontext():
            generated: GeneratedFrame = self.generator(images, adain, warped)
        self.network_seconds += time.perf_counter() - started
        return generated

    def paste(self, region: UInt8[np.ndarray, "side side 3"]) -> Picture:
        """Blend the generated region into the whole picture."""
        return self.region.paste(self.canvas.image, region)


def make_warper(shot: SourceShot, region: Region, config: ModelConfig, device: torch.device) -> RegionWarper:
    """Return what warps a shot on a device."""
    if device.type == "cpu":
        return OpenCvWarper(shot, region, config)
    return TorchWarper(shot, region, config, device)
