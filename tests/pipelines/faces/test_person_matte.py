from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.person_matte import PersonSegmenter, resize_matte
from pipelines.media.images import read_image


class _Sees(PersonSegmenter):
    """A segmenter whose network is of this opinion."""

    def __init__(self, opinion: np.ndarray) -> None:
        super().__init__()
        self._opinion = opinion

    def _segment(self, image: np.ndarray) -> np.ndarray:
        del image
        return self._opinion


def _square(side: int, first: int, last: int) -> np.ndarray:
    opinion = np.zeros((side, side), np.float32)
    opinion[first:last, first:last] = 1
    return opinion


def _face(left: float, right: float) -> np.ndarray:
    """68 points around a circle: of a face as wide as high."""
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    middle, radius = (left + right) / 2, (right - left) / 2
    return (middle + radius * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.float32)


@pytest.mark.slow
def test_the_mona_lisa_stands_before_her_landscape() -> None:
    image = read_image(assets.fetch("mona_lisa"))
    (face,) = create_detector().detect(image)
    matte = PersonSegmenter().matte(image, face.landmarks)
    assert (matte.shape, matte.dtype) == (image.shape[:2], np.uint8)
    height, width = matte.shape
    nose = face.landmarks[30].astype(int)
    assert matte[nose[1], nose[0]] == 255
    assert matte[int(0.6 * height), width // 2] == 255  # her dress
    assert matte[: height // 3, : width // 5].max() < 30  # the sky on either side
    assert matte[: height // 3, -width // 5 :].max() < 30


def test_a_matte_is_widened_by_a_fortieth_of_the_face() -> None:
    matte = _Sees(_square(200, 50, 150)).matte(np.zeros((200, 200, 3), np.uint8), _face(60, 140))
    assert np.flatnonzero(matte[100]).tolist() == [*range(48, 152)]  # 80 pixels of face: two on either side


def test_the_face_is_always_a_persons() -> None:
    """The network sees the left three quarters of it."""
    opinion = np.zeros((200, 200), np.float32)
    opinion[:, :120] = 1
    matte = _Sees(opinion).matte(np.zeros((200, 200, 3), np.uint8), _face(60, 140))
    assert matte[100, 130] == 255
    assert matte[20, 130] == 0


@pytest.mark.parametrize("opinion", [_square(64, 0, 0), _square(64, 0, 20)])
def test_where_the_segmenter_does_not_see_the_face_all_of_the_picture_is_one(opinion: np.ndarray) -> None:
    matte = _Sees(opinion).matte(np.zeros((64, 64, 3), np.uint8), _face(24, 60))
    assert matte.min() == 255


def test_threads_share_a_segmenter() -> None:
    image = read_image(assets.fetch("mona_lisa"))
    segmenter, points = PersonSegmenter(), _face(250, 400)
    alone = segmenter.matte(image, points)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: segmenter.matte(image, points), range(6)))
    assert all(np.array_equal(alone, each) for each in together)


def test_mattes_are_resized_by_area() -> None:
    matte = np.zeros((4, 4), np.uint8)
    matte[:, 1:] = 255
    assert resize_matte(matte, 2).tolist() == [[128, 255]] * 2
    assert cv2.countNonZero(resize_matte(matte, 8)) == 8 * 7
