"""Detect scene cuts from a clip's candidate frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_SIDE = 24
# A cut changes the mean over the image by at least this share of the full range; a head that turns in front of a still
# background stays under half of it.
_MIN_CHANGE = 0.17
_MIN_RATIO = 4.0  # and by so many times the clip's median change: a shaking camera is not a cut


def signature(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "side side 3"]:
    """Return a tiny version of the image, 0 to 1, by which frames of one scene are recognised."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / 255


def find_scenes(signatures: Sequence[Float[np.ndarray, "side side 3"]]) -> tuple[tuple[int, ...], ...]:
    """Return the frame positions of each scene, ordered by first frame. Every position is in exactly one scene.

    A hard cut ends a scene. A frame similar to the last frame of an earlier scene continues that scene, so that a
    cutaway or a damaged frame does not split it.
    """
    if not signatures:
        return ()
    table = np.stack(signatures)
    changes = np.abs(table[1:] - table[:-1]).mean(axis=(1, 2, 3))
    limit = max(_MIN_CHANGE, _MIN_RATIO * float(np.median(changes))) if changes.size else _MIN_CHANGE
    scenes = [[0]]
    current = scenes[0]
    for position, change in enumerate(changes, start=1):
        if change > limit:
            ends = [float(np.abs(table[position] - table[scene[-1]]).mean()) for scene in scenes]
            nearest = int(np.argmin(ends))
            if ends[nearest] > limit:
                scenes.append([])
                nearest = -1
            current = scenes[nearest]
        current.append(position)
    return tuple(map(tuple, scenes))
