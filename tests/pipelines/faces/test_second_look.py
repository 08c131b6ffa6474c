"""Faces that are small in their picture. Most tests stand in white squares for faces: no network is loaded."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from jaxtyping import UInt8

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import Box, Candidates, Face, face_size, make_face
from pipelines.faces.second_look import FrameByFrame, detect_in_order
from pipelines.media import images, video

Image = UInt8[np.ndarray, "height width 3"]


class LargeSquares:
    """Finds a white square that is at least an eighth of the picture's longer side, as MediaPipe finds faces."""

    name = "squares"
    least_share = 0.125

    def __init__(self) -> None:
        self.sides: list[int] = []

    def detect(self, image: Image) -> list[Face]:
        self.sides.append(max(image.shape[:2]))
        rows, columns = np.nonzero(image[:, :, 0] == 255)
        if not len(rows) or np.ptp(columns) < max(image.shape[:2]) / 8:
            return []
        low, high = (columns.min(), rows.min()), (columns.max(), rows.max())
        return [make_face(np.array([low, *[high] * 67], np.float32), 1.0)]


class AnySquare:
    """Stands in for YuNet: finds anything that is not black, and counts the looks."""

    def __init__(self) -> None:
        self.looks: list[int] = []
        self.sides: list[int] = []
        self.frame = 0

    def find_with_points(self, image: Image, side: int) -> list[tuple[Box, None]]:
        self.looks.append(self.frame)
        self.sides.append(side)
        rows, columns = np.nonzero(image[:, :, 0])
        if not len(rows):
            return []
        return [((float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())), None)]


def picture(x: int = 700, y: int = 300, size: int = 40, value: int = 255) -> Image:
    """A 1280 x 720 picture with a square; size 0: black."""
    image = np.zeros((720, 1280, 3), np.uint8)
    image[y : y + size, x : x + size] = value
    return image


@pytest.fixture
def squares() -> tuple[FrameByFrame, LargeSquares, AnySquare]:
    first, yunet = LargeSquares(), AnySquare()
    detector = FrameByFrame(first, max_faces=5, min_face=32.0)
    detector._yunet = yunet  # type: ignore[assignment]
    return detector, first, yunet


def looks_at(squares: tuple[FrameByFrame, LargeSquares, AnySquare], frames: Sequence[Image]) -> list[bool]:
    """Whether each frame of a clip has a face; `squares[2].looks` then lists the frames at which YuNet looked."""
    detect, found = detect_in_order(squares[0]), []
    for squares[2].frame, image in enumerate(frames):
        found.append(bool(detect(image)))
    return found


def test_a_small_face_is_found_at_its_place(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    (face,) = squares[0].detect(picture(700, 300, 40))
    assert face.box == (700, 300, 739, 339)
    assert squares[1].sides == [1280, 79]  # the whole picture, then a window of twice the box


def test_a_face_in_the_first_look_needs_no_second(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    (face,) = squares[0].detect(picture(300, 100, 200))
    assert face.box == (300, 100, 499, 299)
    assert squares[2].looks == []


def test_a_picture_that_the_first_look_sees_well_needs_no_second(
    squares: tuple[FrameByFrame, LargeSquares, AnySquare],
) -> None:
    assert squares[0].detect(np.zeros((256, 200, 3), np.uint8)) == []  # 32 px are an eighth of 256
    assert squares[2].looks == []


def test_a_box_without_landmarks_is_no_face(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    assert squares[0].detect(picture(value=100)) == []
    assert squares[2].sides == [640, 1280]  # 32 px have 16 there, then 32


def test_without_a_smallest_face_there_is_no_second_look() -> None:
    assert FrameByFrame(LargeSquares(), 5, None).detect(picture()) == []


def test_a_clip_without_a_face_is_searched_ever_more_rarely(
    squares: tuple[FrameByFrame, LargeSquares, AnySquare],
) -> None:
    assert not any(looks_at(squares, [picture(size=0)] * 48))
    assert squares[2].looks == [0, 4, 12, 20, 28, 36, 44]


def test_a_small_face_is_followed_by_windows(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    assert all(looks_at(squares, [picture(400 + 5 * i) for i in range(20)]))
    assert squares[2].looks == [0, 8, 16]


def test_a_lost_face_is_searched_at_once(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    jump = [picture(200)] * 3 + [picture(1000)] * 3
    assert all(looks_at(squares, jump))
    assert squares[2].looks == [0, 3]
    squares[2].looks.clear()
    assert looks_at(squares, [picture()] * 2 + [picture(size=0)] * 4) == [True] * 2 + [False] * 4
    assert squares[2].looks == [0, 2]


def test_a_face_that_was_large_is_followed_when_it_gets_small(
    squares: tuple[FrameByFrame, LargeSquares, AnySquare],
) -> None:
    large, small = picture(600, 200, 200), picture(640, 240, 120)
    assert all(looks_at(squares, [large, small, small, large, small, large, small]))
    assert squares[2].looks == []  # the window around the last face shows it


def test_follow_and_the_order_of_clips(squares: tuple[FrameByFrame, LargeSquares, AnySquare]) -> None:
    clip = Candidates([video.Frame(n, 0, picture(400 + 5 * n)) for n in range(5)], {})
    empty = Candidates([video.Frame(n, 0, picture(size=0)) for n in range(5)], {})
    first, nothing, again = squares[0].follow([clip, empty, clip])
    assert [faces[0].box for faces in first] == [(400.0 + 5 * n, 300.0, 439.0 + 5 * n, 339.0) for n in range(5)]
    assert nothing == [[]] * 5
    assert [faces[0].box for faces in again] == [faces[0].box for faces in first]


def test_a_machine_without_yunet_says_so_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise assets.AssetError(f"cannot fetch {name}: no mirror is set")

    monkeypatch.setattr(assets, "fetch", refuse)
    detector = FrameByFrame(LargeSquares(), 5, 32.0)
    assert [detector.detect(picture()), detector.detect(picture())] == [[], []]
    said = capsys.readouterr().err
    assert said == (
        "note: no second look for faces that are small in their picture: cannot fetch yunet: no mirror is set\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mediapipe", "dlib"])
def test_the_landmarks_of_a_small_face_are_those_of_the_large_one(name: str) -> None:
    """Case 06: Mona Lisa's face, 40 px high in full HD."""
    if name == "dlib":
        pytest.importorskip("dlib")
    portrait = images.read_image(assets.fetch("mona_lisa"))
    detector = create_detector(name)
    (large,) = detector.detect(portrait)
    scale = 40 / face_size(large)
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frame = np.full((1080, 1920, 3), 128, np.uint8)
    frame[400 : 400 + len(small), 1100 : 1100 + small.shape[1]] = small
    if name == "mediapipe":
        assert create_detector(name, min_face=None).detect(frame) == []
    (face,) = detector.detect(frame)
    apart = np.linalg.norm(face.landmarks - (large.landmarks * scale + [1100, 400]), axis=1)
    assert apart.mean() < 0.05 * 40
