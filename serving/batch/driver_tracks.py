"""Tracks of drivers, and of films that are sources: made once a machine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines import storage
from pipelines.faces.identity.face_choice import FaceChoice
from pipelines.media.decoder.process import Decoder
from training.animation.motion.formats import is_film

if TYPE_CHECKING:
    from pipelines.faces.face import LandmarkDetector
    from training.animation.driver_track import DriverTrack

OnStep = Callable[[int, int], None]
_MAX_TRACKS = 32  # in memory: half a megabyte for 1,000 frames


class DriverTracks:
    """Tracks of drivers, which are the same for all avatars: in memory, and in a folder for this machine's workers."""

    def __init__(self, folder: Path, decoder: Decoder) -> None:
        self._folder, self._decoder = folder, decoder
        self._known: OrderedDict[str, DriverTrack | str] = OrderedDict()
        """Tracks, or the reasons why there are none, by driver and detector."""

    def get(
        self, driver: Path, sha256: str, detector: LandmarkDetector, face: FaceChoice, on_frame: OnStep
    ) -> DriverTrack:
        """Return the track of a person in a driver, or in a film that is the source, given its hash.

        Raises:
            ValueError: the driver is no video or does not show the face.
        """
        key = f"track-{sha256}-{detector.name}-{face}"
        if key not in self._known:
            self._known[key] = self._load_or_track(key, driver, detector, face, on_frame)
        self._known.move_to_end(key)
        while len(self._known) > _MAX_TRACKS:
            self._known.popitem(last=False)
        known = self._known[key]
        if isinstance(known, str):
            raise ValueError(known)
        return known

    def _load_or_track(
        self, key: str, driver: Path, detector: LandmarkDetector, face: FaceChoice, on_frame: OnStep
    ) -> DriverTrack | str:
        from training.animation.motion.drivers import read_driver

        path = self._folder / f"{key}.npz"
        if path.exists():
            return _load(path)
        try:
            track = read_driver(driver, detector, decoder=self._decoder, face=face, on_frame=on_frame)
        except ValueError as error:
            return str(error)
        if is_film(driver.name):  # the others are read faster than a copy is written, or know their rest
            _save(path, track)
        return track


def _save(path: Path, track: DriverTrack) -> None:
    with storage.atomic_write(str(path)) as sink:
        np.savez(
            sink,
            landmarks=track.landmarks,
            gaze=track.gaze,
            found=track.found,
            seconds=track.times.seconds,
            fps=np.array(str(track.times.fps)),
            constant=np.array(track.times.constant),
            detector=np.array(track.detector),
        )


def _load(path: Path) -> DriverTrack:
    from pipelines.media.frame_times import FrameTimes
    from training.animation.driver_track import DriverTrack

    with np.load(path, allow_pickle=False) as file:
        times = FrameTimes(file["seconds"], Fraction(str(file["fps"])), bool(file["constant"]))
        return DriverTrack(file["landmarks"], file["gaze"], file["found"], times, str(file["detector"]))
