"""Mouth and eyes, which open and close: what a shot hides inside them is taken from another."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from pipelines.faces.head_pose import eye_openness, mouth_openness
from training.animation.shots.choice import choose_shots
from training.animation.shots.masks import OPENINGS
from training.warp.source_choice import warp_distances

_OPENNESS = {"lips": (mouth_openness, 60.0), "eyes": (lambda points: eye_openness(points).mean(axis=-1), 40.0)}
"""What tells how open a part is, and the degrees of `warp_distances` that a difference of 1 weighs."""
_POSE_WEIGHT = 0.05  # of `warp_distances`: pictures of different days differ by tens of degrees, and few show teeth
_LEAST_GAIN = {"lips": 4.0, "eyes": 8.0}
"""Degrees that another shot than the head's must save: such frames are drawn twice, and irises are alike everywhere."""
_MAX_GAIN = 2.0


def opening_distances(
    shots: Float[np.ndarray, "shots 68 2"],
    targets: Float[np.ndarray, "frames 68 2"],
    size: int,
    part: str,
    pose_weight: float,
) -> Float[np.ndarray, "frames shots"]:
    """Return how badly each shot shows a part of `OPENINGS` as it is to be, in degrees.

    Args:
        shots, targets: landmarks in pixels of one crop.
        size: side of the crop, pixels.
        pose_weight: of `warp_distances` beside the difference in openness.
    """
    openness, weight = _OPENNESS[part]
    gaps = np.abs(openness(targets)[:, None] - openness(shots))
    distances: np.ndarray = pose_weight * warp_distances(shots, targets, size) + weight * gaps
    return distances


def choose_openings(
    shots: Float[np.ndarray, "shots 68 2"],
    targets: Float[np.ndarray, "frames 68 2"],
    size: int,
    head: Float[np.ndarray, "frames shots"],
    fps: float | None,
) -> dict[str, Float[np.ndarray, "frames shots"]]:
    """Return the shares of the shots in those of `OPENINGS` that other shots than the head's show better.

    Args:
        shots, targets: landmarks in pixels of one crop.
        size: side of the crop, pixels.
        head: of `choose_shots`, as is `fps`.
    """
    openings = {}
    for part in OPENINGS:
        distances = opening_distances(shots, targets, size, part, _POSE_WEIGHT)
        shares = choose_shots(distances - _LEAST_GAIN[part] * head, fps)
        if (shares.argmax(axis=1) != head.argmax(axis=1)).any():
            openings[part] = shares
    return openings


def lay_opening(
    drawn: Float32[np.ndarray, "side side 3"],
    others: Mapping[int, UInt8[np.ndarray, "side side 3"]],
    inside: Float32[np.ndarray, "side side 1"],
    shares: Float[np.ndarray, " shots"],
) -> Float32[np.ndarray, "side side 3"]:
    """Return a drawn region with an opening replaced by that of the same region drawn from other shots, in its light.

    Args:
        others: the region drawn from each shot with a share.
        inside: of `opening_mask`.
        shares: of the shots, in [0, 1]; what is missing to 1 is the region's own.
    """
    if not inside.any():  # it lies beyond the region
        return drawn
    box = _box(inside, _ring_radius(drawn))
    near, mask = drawn[box], inside[box]
    change = np.zeros_like(near)
    for shot in np.flatnonzero(shares):
        other = others[int(shot)][box].astype(np.float32)
        change += shares[shot] * (np.clip(other * _gain(near, other, mask, _ring_radius(drawn)), 0, 255) - near)
    laid = drawn.copy()
    laid[box] += mask * change
    return laid


def _ring_radius(drawn: Float32[np.ndarray, "side side 3"]) -> int:
    """Return the width of the skin around an opening that tells its light, pixels."""
    return max(len(drawn) // 40, 1)


def _box(inside: Float32[np.ndarray, "side side 1"], margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a mask with a margin: an opening is a small part of its region."""
    rows, columns = (np.flatnonzero(inside[..., 0].any(axis=axis)) for axis in (1, 0))
    box = (slice(max(int(ends[0]) - margin, 0), int(ends[-1]) + margin + 1) for ends in (rows, columns))
    return next(box), next(box)


def _gain(
    drawn: Float32[np.ndarray, "h w 3"],
    other: Float32[np.ndarray, "h w 3"],
    inside: Float32[np.ndarray, "h w 1"],
    radius: int,
) -> Float32[np.ndarray, " 3"]:
    """Return factors that give another picture the light of the region, by the skin around the opening."""
    wide = cv2.dilate(inside[..., 0], np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))[..., None]
    ring = np.maximum(wide - inside, 0)
    ours, theirs = ((ring * picture).sum(axis=(0, 1)) + 1 for picture in (drawn, other))
    return np.asarray(np.clip(ours / theirs, 1 / _MAX_GAIN, _MAX_GAIN), np.float32)
