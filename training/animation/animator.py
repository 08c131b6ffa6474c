"""Generate frames of a portrait with moved landmarks, at the resolution of the portrait."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, groupby

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pipelines.faces.landmark_image import rasterize_batch
from training.animation.joint.joined_warp import JoinedWarp
from training.animation.opencv_warp import OpenCvWarper
from training.animation.region import Picture, Region
from training.animation.region_warp import RegionWarper, SourceShot
from training.animation.shot_choice import choose_shots, shot_distances
from training.animation.shots import ShotMaker
from training.animation.torch_warp import TorchWarper
from training.animation.upsample import enlarge
from training.avatars.avatar import Avatar
from training.avatars.portraits import shrink_portrait
from training.config import ModelConfig, Precision
from training.device import in_batches
from training.images import to_images
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.control_points import REACH, control_points
from training.warp.eyes import Gaze
from training.warp.field import warp_field

BATCH = 8
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
        self.network_seconds = 0.0
        pictures = [shrink_portrait(portrait, max_size) for portrait in avatar.portraits]
        self.canvas = pictures.pop(avatar.canvas_index)
        self.region = Region.around(self.canvas, avatar.config)
        maker = ShotMaker(self.canvas, self.region, avatar.config)
        further = pictures if avatar.config.warp_prior else []
        self.shots = [maker.base, *map(maker.shot, further)]
        self.names = [self.canvas.name, *(portrait.name for portrait in further)]
        self._warper = lru_cache(_KEPT_WARPERS)(self._make_warper)

    def choose_shots(
        self, targets: Float[np.ndarray, "frames 68 2"], fps: float | None
    ) -> Float[np.ndarray, "frames shots"]:
        """Return the share of each shot in each frame, see `training.animation.shot_choice.choose_shots`.

        Args:
            targets: landmarks in pixels of the canvas.
        """
        size = self.config.image_size
        landmarks = np.stack([shot.landmarks for shot in self.shots])
        return choose_shots(shot_distances(landmarks, self.region.to_network(targets, size), size), fps)

    def frames(
        self,
        targets: Float[np.ndarray, "frames 68 2"],
        gaze: Float[np.ndarray, "frames 2 2"] | None,
        shares: Float[np.ndarray, "frames shots"],
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
        network_targets = self.region.to_network(targets, self.config.image_size)
        for first in range(0, len(targets), BATCH):
            if cancelled():
                raise Cancelled
            batch = slice(first, first + BATCH)
            yield from self._mixed(network_targets[batch], None if gaze is None else gaze[batch], shares[batch])

    def _mixed(
        self,
        targets: Float[np.ndarray, "batch 68 2"],
        gaze: Float[np.ndarray, "batch 2 2"] | None,
        shares: Float[np.ndarray, "batch shots"],
    ) -> Sequence[UInt8[np.ndarray, "side side 3"]]:
        """Draw each frame from its shots; frames of a cross-fade from two."""
        parts, which = self.parts(targets, gaze, shares)
        return mix_shots(draw_parts(parts), which, shares)

    def parts(
        self,
        targets: Float[np.ndarray, "batch 68 2"],
        gaze: Float[np.ndarray, "batch 2 2"] | None,
        shares: Float[np.ndarray, "batch shots"],
    ) -> tuple[list["Part"], list[Int[np.ndarray, "frames"]]]:
        """Return what is to be drawn from each shot, and which of the frames that is.

        Args:
            targets: landmarks in pixels of the networks' input.
        """
        which = {int(shot): np.flatnonzero(shares[:, shot]) for shot in np.flatnonzero(shares.any(axis=0))}
        parts = [
            Part(self, shot, targets[frames], None if gaze is None else gaze[frames]) for shot, frames in which.items()
        ]
        return parts, list(which.values())

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

    def _make_warper(self, shot: int) -> RegionWarper:
        return make_warper(self.shots[shot], self.region, self.config, self.device)

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


@dataclass(frozen=True, eq=False)
class Part:
    """Frames to draw that start from one shot of one avatar."""

    animator: Animator
    shot: int
    targets: Float[np.ndarray, "frames 68 2"]
    """Landmarks in pixels of the networks' input."""
    gaze: Float[np.ndarray, "frames 2 2"] | None
    """`pipelines.faces.head_pose.gaze` of the targets; None: unchanged."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, frames: slice) -> "Part":
        gaze = None if self.gaze is None else self.gaze[frames]
        return replace(self, targets=self.targets[frames], gaze=gaze)

    @property
    def source(self) -> SourceShot:
        """The shot."""
        return self.animator.shots[self.shot]

    @property
    def turns(self) -> bool:
        """Whether the eyes turn."""
        return self.gaze is not None and self.source.gaze is not None


def draw_parts(parts: Sequence[Part]) -> list[list[UInt8[np.ndarray, "side side 3"]]]:
    """Draw the regions of the parts' frames in batches of `BATCH`, smaller ones if the device's memory is too small.

    Args:
        parts: of animators whose generators, devices and precisions are the same; AdaIN values, shots and sizes of the
            regions may differ.
    """
    frames: list[UInt8[np.ndarray, "side side 3"]] = []
    for _, turning in groupby(parts, key=lambda part: part.turns):
        alike = list(turning)
        batches = in_batches(lambda batch, alike=alike: draw_batch(_cut(alike, batch)), sum(map(len, alike)), BATCH)
        frames += chain.from_iterable(batches)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return [frames[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]


def _cut(parts: Sequence[Part], batch: slice) -> list[Part]:
    """Return the parts' frames in a slice of all of their frames."""
    cut, first = [], 0
    for part in parts:
        within = slice(max(batch.start - first, 0), min(batch.stop - first, len(part)))
        first += len(part)
        if within.start < within.stop:
            cut.append(part[within])
    return cut


@torch.no_grad()
def draw_batch(parts: Sequence[Part]) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Draw the regions of the parts' frames as one batch. Either all parts turn the eyes, or none."""
    first = parts[0].animator
    config, device = first.config, first.device
    targets = np.concatenate([part.targets for part in parts])
    images = rasterize_batch(torch.from_numpy(targets).to(device), config.image_size, config.raster)
    adain = torch.cat([part.animator.adain_values.expand(len(part), -1) for part in parts])
    sides = [part.animator.region.side for part in parts for _ in range(len(part))]
    if not config.warp_prior:
        generated = first.generate(images, adain, None).frame
        return [to_images(enlarge(generated[i : i + 1], side))[0] for i, side in enumerate(sides)]
    ours, theirs = (
        torch.from_numpy(control_points(landmarks, config.image_size)).to(device)
        for landmarks in (np.stack([part.source.landmarks for part in parts]), targets)
    )
    ours = torch.cat([points.expand(len(part), -1, -1) for points, part in zip(ours.split(1), parts, strict=True)])
    field = warp_field(ours, theirs, extent=REACH, gaze=_turn(parts, device))
    if len(parts) == 1:
        warp = first.warper(parts[0].shot)(field)
        return list(warp.compose(first.generate(images, adain, warp.warped)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    warps = [
        part.animator.warper(part.shot)(field[end - len(part) : end]) for part, end in zip(parts, ends, strict=True)
    ]
    joined = JoinedWarp([warp.warped for warp in warps])
    each = joined.split(first.generate(images, adain, joined))
    return [frame for warp, own in zip(warps, each, strict=True) for frame in warp.compose(own)]


def _turn(parts: Sequence[Part], device: torch.device) -> Gaze | None:
    if not all(part.turns for part in parts):
        return None
    source = np.concatenate([np.broadcast_to(part.source.gaze, part.gaze.shape) for part in parts])
    return Gaze(*(torch.from_numpy(each).to(device) for each in (source, np.concatenate([p.gaze for p in parts]))))


def mix_shots(
    drawn: Sequence[Sequence[UInt8[np.ndarray, "side side 3"]]],
    which: Sequence[Int[np.ndarray, "frames"]],
    shares: Float[np.ndarray, "batch shots"],
) -> Sequence[UInt8[np.ndarray, "side side 3"]]:
    """Return the frames, each the mean of those drawn from its shots, weighted by their shares.

    Args:
        drawn, which: for each shot with a share: frames that start from it, and their numbers.
    """
    used = np.flatnonzero(shares.any(axis=0))
    if len(used) == 1 and (shares[:, used] == 1).all():
        return drawn[0]
    total: list[Float[np.ndarray, "side side 3"]] = [np.zeros((1, 1, 3), np.float32)] * len(shares)
    for shot, frames, numbers in zip(used, drawn, which, strict=True):
        for number, frame in zip(numbers, frames, strict=True):
            total[number] = total[number] + shares[number, shot] * frame
    return [np.rint(frame).astype(np.uint8) for frame in total]


def make_warper(shot: SourceShot, region: Region, config: ModelConfig, device: torch.device) -> RegionWarper:
    """Return what warps a shot on a device."""
    if device.type == "cpu":
        return OpenCvWarper(shot, region, config)
    return TorchWarper(shot, region, config, device)
