"""Where one scene ends and another begins, from the frames that are looked at anyway."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_SIDE = 24
_LEAST = (
    0.17  # of the full range, mean over the picture: a head that turns in front of a still room stays under half of it
)
_TIMES_USUAL = 4.0  # and so much more than between the clip's other frames: a shaking camera is no cut


def signature(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "side side 3"]:
    """A tiny picture, 0 to 1: what two frames of one scene have in common."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / 255


def find_scenes(signatures: Sequence[Float[np.ndarray, "side side 3"]]) -> tuple[tuple[int, ...], ...]:
    """The positions of each scene, in the order of their first; every position is in one.

    A hard cut ends a scene. A picture like the last one of an earlier scene takes that scene up again: a cutaway, or a
    moment of damage, does not make two people of one.
    """
    if not signatures:
        return ()
    table = np.stack(signatures)
    changes = np.abs(table[1:] - table[:-1]).mean(axis=(1, 2, 3))
    limit = max(_LEAST, _TIMES_USUAL * float(np.median(changes))) if changes.size else _LEAST
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
