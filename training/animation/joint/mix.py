"""Frames that several shots have a share in: cross-fades, and mouths and eyes of other shots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from training.animation.shots.choice import ShotShares
from training.animation.shots.masks import opening_mask
from training.animation.shots.openings import lay_opening

Pixels = UInt8[np.ndarray, "side side 3"]


def mix_shots(
    drawn: Sequence[Sequence[Pixels]],
    which: Sequence[Int[np.ndarray, " _"]],
    shares: ShotShares,
    faces: Float[np.ndarray, "batch 68 2"],
) -> Sequence[Pixels]:
    """Return the frames: heads are the mean of those drawn from their shots, openings likewise.

    Args:
        drawn, which: for each shot with a share: frames that start from it, and their numbers.
        faces: landmarks in pixels of the region.
    """
    used = np.flatnonzero(shares.used.any(axis=0))
    if len(used) == 1:
        return drawn[0]
    by_frame: list[dict[int, Pixels]] = [{} for _ in range(len(shares))]
    for shot, frames, numbers in zip(used, drawn, which, strict=True):
        for number, frame in zip(numbers, frames, strict=True):
            by_frame[number][int(shot)] = frame
    return [_mix(by_frame[number], shares, number, faces[number]) for number in range(len(shares))]


def _mix(drawn: dict[int, Pixels], shares: ShotShares, number: int, face: Float[np.ndarray, "68 2"]) -> Pixels:
    """Return frame `number`, given as drawn from each of its shots."""
    if len(drawn) == 1:
        return next(iter(drawn.values()))
    head, side = shares.head[number], len(next(iter(drawn.values())))
    mixed = np.zeros((side, side, 3), np.float32)
    for shot in np.flatnonzero(head):
        mixed += head[shot] * drawn[int(shot)]
    for part, of_shots in shares.openings.items():
        if not np.array_equal(of_shots[number], head):
            mixed = lay_opening(mixed, drawn, opening_mask(face, part, side), of_shots[number])
    return np.rint(mixed).astype(np.uint8)
