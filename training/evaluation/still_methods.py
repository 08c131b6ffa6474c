"""Baselines that show a frame as it is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from training.evaluation.methods import Shots


@dataclass(frozen=True)
class StaticPortrait:
    """Baseline: the first shot, for any target."""

    name: str = "static portrait"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        return np.repeat(shots.faces.images[:1], len(targets), axis=0)


@dataclass(frozen=True)
class MeanFrame:
    """Baseline: the mean of the shots."""

    name: str = "mean frame"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        mean = np.rint(shots.faces.images.mean(axis=0, keepdims=True)).astype(np.uint8)
        return np.repeat(mean, len(targets), axis=0)


@dataclass(frozen=True)
class NearestFrame:
    """Baseline: the shot whose landmarks are nearest to the target's, by the mean distance of the 68 points.

    Position and scale are not normalised, since the frame is shown unchanged.
    """

    name: str = "nearest frame"

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        distance = np.linalg.norm(targets[:, None] - shots.faces.landmarks, axis=-1).mean(axis=-1)
        nearest: np.ndarray = shots.faces.images[distance.argmin(axis=1)]
        return nearest
