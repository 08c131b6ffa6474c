"""Masks of the parts of a face that are drawn anew: soft, and as small as the motion of those parts allows."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32

from pipelines.faces.head_pose import INNER_LIP, LEFT_BROW, LEFT_EYE, NOSTRILS, OUTER_LIP, RIGHT_BROW, RIGHT_EYE
from training.animation.upsample import feather

_SIZE = 192  # pixels at which a mask is drawn: it is smooth
_EYES = ((*range(RIGHT_EYE.start, RIGHT_EYE.stop),), (*range(LEFT_EYE.start, LEFT_EYE.stop),))
_BROWS = ((*range(RIGHT_BROW.start, RIGHT_BROW.stop),), (*range(LEFT_BROW.start, LEFT_BROW.stop),))
_MOUTH = (*range(OUTER_LIP.start, INNER_LIP.stop),)
# Of each part: points that it moves, and how far beyond them and how softly it ends, in widths of the face.
_PARTS: dict[str, tuple[tuple[tuple[int, ...], ...], float, float]] = {
    "lips": (((*range(2, 15), *range(NOSTRILS.start, NOSTRILS.stop), *_MOUTH),), 0.08, 0.05),
    "eyes": (tuple(a + b for a, b in zip(_EYES, _BROWS, strict=True)), 0.04, 0.03),
    "brows": (tuple(a + b for a, b in zip(_EYES, _BROWS, strict=True)), 0.08, 0.04),
    "gaze": (_EYES, 0.02, 0.012),
}
OPENINGS: dict[str, tuple[tuple[int, ...], ...]] = {"lips": (_MOUTH,), "eyes": _EYES}
"""The parts that open and close, with the landmarks of what opens."""
_RIM, _RIM_BLUR = 0.01, 0.01  # of what another shot shows of mouth and eyes


def part_mask(
    own: Float[np.ndarray, "68 2"], target: Float[np.ndarray, "68 2"], parts: Sequence[str], side: int
) -> Float32[np.ndarray, "side side 1"]:
    """Return how much of each pixel of a region is drawn anew, in [0, 1].

    Args:
        own, target: landmarks of the frame and of what is drawn, pixels of the region.
        parts: of `retarget.PARTS`; with pose, the whole region.
    """
    if "pose" in parts:
        return np.asarray(feather(side)[..., None])
    width = float(np.linalg.norm(own[16] - own[0]))
    total = np.zeros((_SIZE, _SIZE), np.float32)
    for part in parts:
        groups, reach, blur = _PARTS[part]
        hulls = [np.concatenate([own[[*group]], target[[*group]]]) for group in groups]
        total = np.maximum(total, _soft(hulls, reach * width, blur * width, side))
    return np.asarray(_enlarged(total, side) * feather(side)[..., None])


def opening_mask(target: Float[np.ndarray, "68 2"], part: str, side: int) -> Float32[np.ndarray, "side side 1"]:
    """Return where a region shows the inside of an opening of `OPENINGS`, with its lips or lids."""
    width = float(np.linalg.norm(target[16] - target[0]))
    hulls = [target[[*points]] for points in OPENINGS[part]]
    return _enlarged(_soft(hulls, _RIM * width, _RIM_BLUR * width, side), side)


def _soft(
    hulls: Sequence[Float[np.ndarray, "points 2"]], reach: float, blur: float, side: int
) -> Float32[np.ndarray, "h w"]:
    """Return the union of convex hulls, extended by `reach`, with an edge of standard deviation `blur`."""
    scale = _SIZE / side
    mask = np.zeros((_SIZE, _SIZE), np.uint8)
    for points in hulls:
        small = (points + 0.5) * scale - 0.5
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(16 * small).astype(np.int32)), 255, cv2.LINE_AA, shift=4)
    radius = round(reach * scale)
    if radius:
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(blur * scale, 0.3))
    return np.asarray(soft, np.float32)


def _enlarged(mask: Float32[np.ndarray, "h w"], side: int) -> Float32[np.ndarray, "side side 1"]:
    return np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)[..., None]
