"""Tracks of drivers are made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.face import Face, make_face
from pipelines.faces.identity.face_choice import LARGEST
from pipelines.media.decoder.process import Decoder
from serving.batch.driver_tracks import DriverTracks


@dataclass
class CountsImages:
    """Detects the same face in every image, or none; counts the images."""

    faces: int = 1
    images: int = 0
    name: str = "counting"

    def detect(self, image: np.ndarray) -> list[Face]:
        self.images += 1
        return [make_face(np.random.default_rng(0).uniform(4, 28, (68, 2)), 1.0)] * self.faces


def test_a_driver_is_tracked_once_for_all_avatars_and_workers(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    driver, detector = make_video("talk.mp4", [10, 20, 30]), CountsImages()
    steps: list[tuple[int, int]] = []
    tracks = DriverTracks(tmp_path, Decoder())
    first = tracks.get(driver, "a", detector, LARGEST, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert tracks.get(driver, "a", detector, LARGEST, lambda done, total: None) is first
    other = DriverTracks(tmp_path, Decoder()).get(driver, "a", detector, LARGEST, lambda done, total: None)
    assert detector.images == 3
    assert (other.times.fps, other.detector, len(other)) == (Fraction(25), "counting", 3)
    np.testing.assert_array_equal(other.landmarks, first.landmarks)
    np.testing.assert_array_equal(other.gaze, first.gaze)
    np.testing.assert_array_equal(other.times.seconds, [0, 0.04, 0.08])
    assert other.times.constant
    np.testing.assert_array_equal(other.found, first.found)
    tracks.get(driver, "b", detector, LARGEST, lambda done, total: None)
    assert detector.images == 6


def test_a_driver_without_a_face_is_looked_through_once(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    driver, detector, tracks = (
        make_video("empty.mp4", [10, 20]),
        CountsImages(faces=0),
        DriverTracks(tmp_path, Decoder()),
    )
    for _ in range(3):
        with pytest.raises(ValueError, match=r"empty.mp4: .*face"):
            tracks.get(driver, "a", detector, LARGEST, lambda done, total: None)
    assert detector.images == 2
