from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipelines.faces.boxes import follow_hints, hint_at, interpolate_boxes, mostly_inside, share_inside
from pipelines.faces.face import Box, Candidates, Face, make_face
from pipelines.media import video

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (100.0, 0.0, 110.0, 10.0)


def box(*numbers: float) -> Box:
    x0, y0, x1, y1 = map(float, numbers)
    return x0, y0, x1, y1


def square(x: float, y: float, size: float) -> Face:
    """A face whose landmarks fill the square with that corner."""
    points = np.full((68, 2), (x, y), np.float32)
    points[8] = (x + size, y + size)
    return make_face(points, 1.0)


def clip_of(numbers: Sequence[int], hints: dict[int, Box], shape: tuple[int, int] = (100, 200)) -> Candidates:
    """Frames in which the pixel (x, y) is (x, y, 7), so that a cut says where it was taken."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)
    return Candidates([video.Frame(number, number * 40_000, image) for number in numbers], hints)


def test_a_box_that_moves_is_interpolated() -> None:
    assert interpolate_boxes([LEFT], [box(4, 0, 14, 10)], 0.25) == [(1, 0, 11, 10)]
    assert interpolate_boxes([LEFT, RIGHT], [box(102, 0, 112, 10), box(2, 0, 12, 10)], 0.5) == [
        (1, 0, 11, 10),
        (101, 0, 111, 10),
    ]


def test_a_face_in_one_of_two_frames_stands_still_over_the_nearer_half() -> None:
    assert interpolate_boxes([LEFT], [RIGHT], 0.4) == [LEFT]
    assert interpolate_boxes([LEFT], [RIGHT], 0.5) == [RIGHT]
    assert interpolate_boxes([], [RIGHT], 0.4) == []
    assert interpolate_boxes([LEFT, RIGHT], [LEFT], 0.4) == [LEFT, RIGHT]
    assert interpolate_boxes([LEFT, RIGHT], [LEFT], 0.6) == [LEFT]


def test_hints_reach_the_frames_between_and_beyond_them() -> None:
    hints = {10: LEFT, 20: (20.0, 0.0, 30.0, 20.0)}
    assert hint_at(hints, 10) == LEFT
    assert hint_at(hints, 15) == (10, 0, 20, 15)
    assert hint_at(hints, 0) == LEFT
    assert hint_at(hints, 99) == (20, 0, 30, 20)


def test_the_share_of_a_box_inside_another() -> None:
    assert share_inside(box(0, 0, 10, 10), box(5, 0, 50, 50)) == 0.5
    assert share_inside(box(0, 0, 10, 10), box(10, 0, 50, 50)) == 0
    assert share_inside(box(5, 5, 5, 9), box(0, 0, 50, 50)) == 0
    image = np.zeros((100, 200, 3), np.uint8)
    assert mostly_inside(box(-10, 0, 10, 10), image)
    assert not mostly_inside(box(-11, 0, 10, 10), image)
    assert not mostly_inside(box(150, 101, 180, 140), image)


def test_a_face_is_detected_around_its_hint_in_the_images_pixels() -> None:
    cuts = []

    def detect(image: np.ndarray) -> list[Face]:
        cuts.append((image[0, 0, :2].tolist(), image.shape[:2]))
        return [square(10, 10, 20)]

    found = follow_hints(clip_of([3], {3: box(50, 30, 70, 50)}), detect)
    assert cuts == [([40, 20], (41, 41))]  # twice the hint, about its middle
    assert found is not None
    assert found[0][0].box == (50, 30, 70, 50)


def test_of_several_faces_the_one_under_the_hint_is_taken() -> None:
    def detect(image: np.ndarray) -> list[Face]:
        return [square(0, 0, 9), square(12, 10, 18), square(10, 10, 20)]

    (faces,) = follow_hints(clip_of([0], {0: box(50, 30, 70, 50)}), detect) or [[]]
    assert [face.box for face in faces] == [(50, 30, 70, 50)]


def test_hints_outside_the_image_are_abandoned_without_detection() -> None:
    def detect(image: np.ndarray) -> list[Face]:
        raise AssertionError("looked")

    assert follow_hints(clip_of(range(20), {0: box(300, 30, 340, 70)}), detect) is None


@pytest.mark.parametrize(("first", "led"), [(5, True), (4, False)])
def test_hints_lead_nowhere_when_most_frames_show_no_face(first: int, led: bool) -> None:
    answers = iter([[square(10, 10, 20)]] * first + [[]] * 5)
    detect: Callable[[np.ndarray], list[Face]] = lambda image: next(answers)  # noqa: E731
    found = follow_hints(clip_of(range(first + 5), {0: box(50, 30, 70, 50)}), detect)
    assert (found is not None) == led


def test_wrong_hints_are_given_up_early() -> None:
    looks = []
    assert follow_hints(clip_of(range(50), {0: box(50, 30, 70, 50)}), lambda image: looks.append(1) or []) is None
    assert len(looks) == 8
