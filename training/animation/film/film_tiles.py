"""The side-by-side video of a film as the source: three square tiles around the faces, of film, driver and result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from pipelines.faces.crop import CropRule, crop, crop_affine
from pipelines.media.video import Frame, VideoWriter, decode
from training.animation.driver_track import DriverTrack
from training.animation.region import Picture

TILE = 400
"""Side of a tile, pixels."""


class FilmTiles:
    """Writes the tiles of a film's frames, each with the driver's frame of that time; its last one stays."""

    def __init__(
        self,
        writer: VideoWriter,
        film: DriverTrack,
        own: Float[np.ndarray, "frames 68 2"],
        driver: Path,
        track: DriverTrack,
        rule: CropRule,
    ) -> None:
        """`own` are the film's landmarks in pixels of its written frames; the writer takes `TILE` x 3 `TILE`."""
        self._writer, self._seconds, self._own, self._rule = writer, film.times.seconds, own[film.found], rule
        self._driver, self._track = decode(driver), track
        self._now: Frame | None = None
        self._next = next(self._driver, None)
        self._affines: list[Float64[np.ndarray, "2 3"]] = []

    def write(self, number: int, before: Picture, after: Picture, shown: Sequence[float | None]) -> None:
        """Write frame `number` of the film, before and after, as often as it is `shown`."""
        times = self._track.times.seconds
        while self._next is not None and times[min(self._next.index, len(times) - 1)] <= self._seconds[number] + 1e-6:
            self._now, self._next = self._next, next(self._driver, None)
        assert self._now is not None
        driver = self._now.image
        if not self._affines:
            self._affines = [_square(self._own, before, self._rule), _square(self._track.landmarks, driver, self._rule)]
        ours, theirs = self._affines
        tiles = np.hstack([crop(before, ours, TILE), crop(driver, theirs, TILE), crop(after, ours, TILE)])
        for seconds in shown:
            self._writer.write(tiles, seconds)


def _square(landmarks: Float[np.ndarray, "frames 68 2"], image: Picture, rule: CropRule) -> Float64[np.ndarray, "2 3"]:
    """Return the crop of all frames' faces, within the picture."""
    height, width = image.shape[:2]
    affine = crop_affine(landmarks, rule, TILE)
    side = min(float(affine[0, 0]) * TILE, width, height)
    centre = affine[:, 2] + affine[0, 0] * (TILE - 1) / 2
    corner = np.clip(centre - side / 2, -0.5, np.array([width, height]) - side - 0.5)
    scale = side / TILE
    return np.array([[scale, 0, corner[0] + scale / 2], [0, scale, corner[1] + scale / 2]])
