"""Where one scene ends and another begins, from the frames that are looked at anyway."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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


def find_scenes(signatures: Sequence[Float[np.ndarray, "side side 3"]]) -> tuple[range, ...]:
    """Runs of positions without a hard cut between neighbours, in order; together they are all positions."""
    count = len(signatures)
    if count < 2:
        return (range(count),) if count else ()
    table = np.stack(signatures)
    changes = np.abs(table[1:] - table[:-1]).mean(axis=(1, 2, 3))
    limit = max(_LEAST, _TIMES_USUAL * float(np.median(changes)))
    starts = [0, *(int(i) + 1 for i in np.flatnonzero(changes > limit)), count]
    return tuple(range(a, b) for a, b in pairwise(starts))
