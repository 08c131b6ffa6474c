"""The arguments that `animate` passes to fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.faces.face import Face, make_face
from pipelines.faces.identity.face_choice import LARGEST
from pipelines.media.decoder.process import Decoder
from serving.batch import avatar_maker
from serving.batch.avatar_maker import AvatarOptions, DriverTracks, ModelAvatarMaker, VideoFiles
from serving.batch.inputs import Input
from serving.batch.items import AvatarSource
from serving.batch.workspace import Workspace
from training.avatars.finetune import FineTuneConfig
from training.checkpoints.shipped import named_or_shipped
from training.losses.perceptual_files import PerceptualFiles

PICTURE = Path("pipelines/assets/data/mona_lisa.jpg")


class AlwaysDetects:
    """Detects one face in every image."""

    def detect(self, image: np.ndarray) -> list[Face]:
        return [make_face(np.random.default_rng(0).uniform(100, 300, (68, 2)), 1.0)]


@pytest.mark.slow
def test_pictures_are_fine_tuned_with_the_given_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []

    def fine_tune(*arguments: object) -> None:
        received.extend(arguments)
        raise ValueError("enough")

    monkeypatch.setattr("training.avatars.finetune.fine_tune", fine_tune)
    monkeypatch.setattr(avatar_maker, "create_detector", lambda name: AlwaysDetects())
    files = PerceptualFiles("/w/vgg19.pth", "/w/vggface.pth")
    options = AvatarOptions(named_or_shipped(None), num_steps=3, perceptual_files=files, device="cpu")
    source = AvatarSource(Input("picture", str(PICTURE.absolute()), "mona_lisa", "0" * 64))
    with pytest.raises(ValueError, match="enough"):
        ModelAvatarMaker(options, Workspace(str(tmp_path), tmp_path)).avatar(source, lambda done, total: None)
    model, portraits, config, _, given, device = received
    assert [portrait.name for portrait in portraits] == ["mona_lisa.jpg"]  # type: ignore[attr-defined]
    assert config == FineTuneConfig(num_steps=3)
    assert given == files
    assert device == torch.device("cpu")
    assert model.config.perceptual == "vgg16"  # type: ignore[attr-defined]


@dataclass
class CountsImages:
    """Detects the same face in every image, or none; counts the images."""

    faces: int = 1
    images: int = 0
    name: str = "counting"

    def detect(self, image: np.ndarray) -> list[Face]:
        self.images += 1
        return [make_face(np.random.default_rng(0).uniform(4, 28, (68, 2)), 1.0)] * self.faces


def files(driver: Path, sha256: str) -> VideoFiles:
    return VideoFiles(driver, sha256, driver.parent / "out.mp4", None)


def test_a_driver_is_tracked_once_for_all_avatars_and_workers(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    driver, detector = make_video("talk.mp4", [10, 20, 30]), CountsImages()
    steps: list[tuple[int, int]] = []
    tracks = DriverTracks(tmp_path, Decoder())
    first = tracks.get(files(driver, "a"), detector, LARGEST, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert tracks.get(files(driver, "a"), detector, LARGEST, lambda done, total: None) is first
    other = DriverTracks(tmp_path, Decoder()).get(files(driver, "a"), detector, LARGEST, lambda done, total: None)
    assert detector.images == 3
    assert (other.times.fps, other.detector, len(other)) == (Fraction(25), "counting", 3)
    np.testing.assert_array_equal(other.landmarks, first.landmarks)
    np.testing.assert_array_equal(other.gaze, first.gaze)
    np.testing.assert_array_equal(other.times.seconds, [0, 0.04, 0.08])
    assert other.times.constant
    np.testing.assert_array_equal(other.found, first.found)
    tracks.get(files(driver, "b"), detector, LARGEST, lambda done, total: None)
    assert detector.images == 6


def test_a_driver_without_a_face_is_looked_through_once(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    driver, detector, tracks = (
        make_video("empty.mp4", [10, 20]),
        CountsImages(faces=0),
        DriverTracks(tmp_path, Decoder()),
    )
    for _ in range(3):
        with pytest.raises(ValueError, match=r"empty.mp4: .*face"):
            tracks.get(files(driver, "a"), detector, LARGEST, lambda done, total: None)
    assert detector.images == 2
