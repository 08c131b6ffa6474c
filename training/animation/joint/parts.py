"""Draw frames that start from different shots, of one avatar or of several, in batches of the networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines.faces.landmark_image import rasterize_batch
from training.animation.joint.joined_warp import JoinedWarp
from training.animation.region import Region
from training.animation.region_warp import RegionWarper, SourceShot
from training.animation.upsample import enlarge
from training.config import ModelConfig
from training.device import in_batches
from training.images import to_images
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.control_points import REACH, control_points
from training.warp.eyes import Gaze
from training.warp.field import warp_field

BATCH = 8
"""Frames that the networks draw at once."""


@runtime_checkable
class Drawer(Protocol):
    """What draws an avatar: `training.animation.animator.Animator`, which says what each member is."""

    config: ModelConfig
    device: torch.device
    adain_values: Float[Tensor, "1 values"]
    region: Region
    shots: list[SourceShot]

    def warper(self, shot: int) -> RegionWarper: ...
    def mirrored_gain(self, shot: int) -> Float[Tensor, "1 3"]: ...
    def generate(self, images: Tensor, adain: Tensor, warped: WarpInput | None) -> GeneratedFrame: ...


@dataclass(frozen=True, eq=False)
class Part:
    """Frames to draw that start from one shot of one avatar."""

    drawer: Drawer
    shot: int
    targets: Float[np.ndarray, "frames 68 2"]
    """Landmarks in pixels of the networks' input."""
    gaze: Float[np.ndarray, "frames 2 2"] | None
    """`pipelines.faces.head_pose.gaze` of the targets; None: unchanged."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, frames: slice) -> Part:
        gaze = None if self.gaze is None else self.gaze[frames]
        return replace(self, targets=self.targets[frames], gaze=gaze)

    @property
    def source(self) -> SourceShot:
        """The shot."""
        return self.drawer.shots[self.shot]

    @property
    def turns(self) -> bool:
        """Whether the eyes turn."""
        return self.gaze is not None and self.source.gaze is not None


def draw_parts(parts: Sequence[Part]) -> list[list[UInt8[np.ndarray, "side side 3"]]]:
    """Draw the regions of the parts' frames in batches of at most `BATCH`; less if the device's memory is too small.

    A batch has as many whole parts as fit: what a part costs beside its frames is more than a full batch saves.

    Args:
        parts: of drawers whose generators, devices and precisions are the same; AdaIN values, shots and sizes of the
            regions may differ. Those of more than `BATCH` frames are cut.
    """
    cut = [part[first : first + BATCH] for part in parts for first in range(0, len(part), BATCH)]
    frames = chain.from_iterable(map(_draw_together, _pack(cut)))
    return [list(islice(frames, len(part))) for part in parts]


def _pack(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield successive parts that fit into one batch and agree on whether eyes turn."""
    batch: list[Part] = []
    for part in parts:
        if batch and (batch[0].turns != part.turns or sum(map(len, batch)) + len(part) > BATCH):
            yield batch
            batch = []
        batch.append(part)
    yield batch


def _draw_together(parts: Sequence[Part]) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    batches = in_batches(lambda batch: draw_batch(_cut(parts, batch)), sum(map(len, parts)), BATCH)
    return chain.from_iterable(batches)


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
    first = parts[0].drawer
    config, device = first.config, first.device
    targets = np.concatenate([part.targets for part in parts])
    images = rasterize_batch(torch.from_numpy(targets).to(device), config.image_size, config.raster)
    adain = torch.cat([part.drawer.adain_values.expand(len(part), -1) for part in parts])
    sides = [part.drawer.region.side for part in parts for _ in range(len(part))]
    if not config.warp_prior:
        generated = first.generate(images, adain, None).frame
        return [to_images(enlarge(generated[i : i + 1], side))[0] for i, side in enumerate(sides)]
    ours, theirs = (
        torch.from_numpy(control_points(landmarks, config.image_size)).to(device)
        for landmarks in (np.stack([part.source.landmarks for part in parts]), targets)
    )
    ours = torch.cat([points.expand(len(part), -1, -1) for points, part in zip(ours.split(1), parts, strict=True)])
    gain = torch.cat([part.drawer.mirrored_gain(part.shot).expand(len(part), -1) for part in parts])
    field = warp_field(ours, theirs, extent=REACH, gaze=_turn(parts, device), mirrored_gain=gain)
    if len(parts) == 1:
        warp = first.warper(parts[0].shot)(field)
        return list(warp.compose(first.generate(images, adain, warp.warped)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    warps = [part.drawer.warper(part.shot)(field[end - len(part) : end]) for part, end in zip(parts, ends, strict=True)]
    joined = JoinedWarp([warp.warped for warp in warps])
    each = joined.split(first.generate(images, adain, joined))
    return [frame for warp, own in zip(warps, each, strict=True) for frame in warp.compose(own)]


def _turn(parts: Sequence[Part], device: torch.device) -> Gaze | None:
    source, target = [], []
    for part in parts:
        if part.gaze is None or part.source.gaze is None:
            return None
        source.append(np.broadcast_to(part.source.gaze, part.gaze.shape))
        target.append(part.gaze)
    return Gaze(*(torch.from_numpy(np.concatenate(gazes)).to(device) for gazes in (source, target)))
