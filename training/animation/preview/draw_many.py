"""Frames of several avatars, in as few batches as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from training.animation.animator import Animator
from training.animation.joint.parts import draw_parts
from training.animation.shots.choice import ShotShares


@dataclass(frozen=True, eq=False)
class WantedFrames:
    """Frames of one avatar."""

    animator: Animator
    targets: Float[np.ndarray, "frames 68 2"]
    """Landmarks in pixels of the canvas."""
    gaze: Float[np.ndarray, "frames 2 2"] | None
    """`pipelines.faces.head_pose.gaze` of each frame; None: unchanged."""
    shares: ShotShares
    """Of `Animator.choose_shots`."""


def draw_many(wanted: Sequence[WantedFrames]) -> list[Sequence[UInt8[np.ndarray, "side side 3"]]]:
    """Return the regions of each avatar's frames.

    AdaIN values are those of a sample, so avatars whose generators have the same weights, as feed-forward avatars of
    one base model, share batches. Fine-tuned avatars are drawn one after another.
    """
    drawn: list[Sequence[UInt8[np.ndarray, "side side 3"]]] = [()] * len(wanted)
    for group in _alike([each.animator for each in wanted]):
        jobs = []
        for number in group:
            each = wanted[number]
            jobs.append((number, *each.animator.parts(each.targets, each.gaze, each.shares)))
        frames = iter(draw_parts([part for _, parts, _ in jobs for part in parts]))
        for number, parts, which in jobs:
            each = wanted[number]
            drawn[number] = each.animator.mixed([next(frames) for _ in parts], which, each.targets, each.shares)
    return drawn


def _alike(animators: Sequence[Animator]) -> list[list[int]]:
    """Return the indices of the animators that can share a batch."""
    groups: list[list[int]] = []
    for number, animator in enumerate(animators):
        group = next((group for group in groups if can_share_batches(animators[group[0]], animator)), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return groups


def can_share_batches(one: Animator, other: Animator) -> bool:
    """Whether two animators' generators are the same network with the same weights, at one place and precision."""
    if (one.config, one.device, one.precision) != (other.config, other.device, other.precision):
        return False
    if one.generator is other.generator:
        return True
    pairs = zip(chain(*_tensors(one)), chain(*_tensors(other)), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def _tensors(animator: Animator) -> tuple[Iterable[Tensor], Iterable[Tensor]]:
    return animator.generator.parameters(), animator.generator.buffers()
