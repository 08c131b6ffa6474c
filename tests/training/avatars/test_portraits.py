import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.faces.crop import CropRule
from pipelines.faces.face import Face, make_face
from pipelines.faces.identity.face_choice import FaceChoice
from training.avatars.portraits import Portrait, find_portraits, shrink_portrait
from training.config import ModelConfig

MakeFace = Callable[..., np.ndarray]


class Finder:
    """Finds the faces it was given, whatever the picture."""

    name = "mediapipe"

    def __init__(self, *faces: np.ndarray, gaze: np.ndarray | None = None) -> None:
        self.faces = [make_face(points, 1.0, gaze) for points in faces]

    def detect(self, image: np.ndarray) -> list[Face]:
        return self.faces


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    for number in range(2):
        Image.new("RGB", (60, 80), (number * 90, 50, 50)).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(2)]


def test_the_largest_face_is_taken_or_the_one_asked_for(pictures: list[str], face: MakeFace) -> None:
    large, small = face(40, 30, 40), face(15, 10, 20)
    finder = Finder(large, small)
    assert np.array_equal(find_portraits(pictures[:1], finder)[0].landmarks, large)
    assert np.array_equal(find_portraits(pictures[:1], finder, face=FaceChoice(0))[0].landmarks, large)
    assert np.array_equal(find_portraits(pictures[:1], finder, face=FaceChoice(1))[0].landmarks, small)


def test_a_portrait_keeps_the_whole_picture_its_name_and_its_hash(pictures: list[str], face: MakeFace) -> None:
    first, second = find_portraits(pictures, Finder(face()))
    assert first.image.shape == (80, 60, 3)
    assert first.name == "0.png"
    assert len(first.sha256) == 64
    assert first.sha256 != second.sha256


def test_a_portrait_keeps_where_it_looks_at_any_size(pictures: list[str], face: MakeFace) -> None:
    gaze = np.array([[0.4, 0.1], [0.45, 0.12]], np.float32)
    (portrait,) = find_portraits(pictures[:1], Finder(face(), gaze=gaze))
    for one in (portrait, shrink_portrait(portrait, 40)):
        assert one.gaze is not None
        assert np.array_equal(one.gaze, gaze)
    assert find_portraits(pictures[:1], Finder(face()))[0].gaze is None


def test_a_picture_given_twice_counts_once(pictures: list[str], face: MakeFace, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(pictures[0]).read_bytes())
    found = find_portraits([pictures[0], str(copy), pictures[1], pictures[0]], Finder(face()))
    assert [portrait.name for portrait in found] == ["0.png", "1.png"]


def test_a_picture_without_a_face_is_refused_by_name(pictures: list[str]) -> None:
    with pytest.raises(ValueError, match=r"0\.png: no face found$"):
        find_portraits(pictures, Finder())


def test_a_face_that_is_not_there_is_refused(pictures: list[str], face: MakeFace) -> None:
    with pytest.raises(ValueError, match=r"0\.png: face 2 was asked for, but only 2 found"):
        find_portraits(pictures, Finder(face(), face(15)), face=FaceChoice(2))


def test_what_is_missing_or_no_picture_is_refused_by_name(tmp_path: Path, face: MakeFace) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
        find_portraits([str(tmp_path / "nowhere.png")], Finder(face()))
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.png is not a"):
        find_portraits([str(tmp_path / "text.png")], Finder(face()))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder is a folder, not a file"):
        find_portraits([str(tmp_path / "folder")], Finder(face()))


def test_pictures_may_be_urls(pictures: list[str], served: str, face: MakeFace) -> None:
    urls = [f"{served}/0.png?X-Amz-Signature=a/b", f"file://{pictures[1]}"]
    found = find_portraits(urls, Finder(face()))
    assert [portrait.name for portrait in found] == ["0.png", "1.png"]
    assert [portrait.sha256 for portrait in found] == [
        portrait.sha256 for portrait in find_portraits(pictures, Finder(face()))
    ]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, face: MakeFace) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is no regular file"):
        find_portraits([str(tmp_path / "pipe.png")], Finder(face()))


def test_a_crop_brings_its_landmarks_along(
    portrait: Callable[..., Portrait], tiny_model: Callable[..., ModelConfig]
) -> None:
    picture = portrait(60)
    config = tiny_model(crop=CropRule(margin=1.5, up=0.0))
    image, landmarks = picture.crop(config, 96)
    assert image.shape == (96, 96, 3)
    # The larger side of the landmarks' box is 1 / margin of the crop, and without `up` its middle is the crop's.
    assert max(np.ptp(landmarks, axis=0)) == pytest.approx(96 / 1.5, rel=1e-3)
    assert (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2 == pytest.approx([47.5, 47.5], abs=1e-3)
    affine = picture.affine(config, 96)
    assert np.allclose(landmarks @ affine[:, :2].T + affine[:, 2], picture.landmarks, atol=1e-3)


def test_scaling_keeps_landmarks_on_the_face(portrait: Callable[..., Portrait]) -> None:
    picture = portrait()
    small = shrink_portrait(picture, 75)
    assert small.image.shape == (75, 60, 3)
    assert shrink_portrait(picture, 150) is picture
    assert np.allclose(small.landmarks, (picture.landmarks + 0.5) * [60 / 121, 0.5] - 0.5, atol=1e-3)
