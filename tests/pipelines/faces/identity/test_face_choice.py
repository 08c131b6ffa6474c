"""The face that a number, a point or a box means."""

import numpy as np
import pytest

from pipelines.faces.face import Face, make_face
from pipelines.faces.identity.face_choice import FaceChoice, parse_face_choice

_CORNERS = np.array([[-1, -1], [1, 1]])


def face(x: float, y: float, size: float) -> Face:
    return make_face(np.tile(np.array([x, y]) + size / 2 * _CORNERS, (34, 1)), 1.0)


LEFT, RIGHT = face(100, 100, 80), face(300, 100, 60)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", LEFT),
        ("1", RIGHT),
        ("2", None),
        ("300,110", RIGHT),
        ("100,40", LEFT),  # the forehead, above the landmarks
        ("200,100", None),
        ("250,40,350,160", RIGHT),
        ("0,0,400,200", LEFT),  # both: the one that fills more of the box
        ("200,0,240,200", None),
    ],
)
def test_a_face_is_chosen_by_number_point_or_box(text: str, found: Face | None) -> None:
    choice = parse_face_choice(text)
    assert choice.find([LEFT, RIGHT]) is found
    assert str(choice) == text
    assert choice.find([]) is None


def test_what_is_not_there_is_told() -> None:
    assert parse_face_choice("2").problem(2) == "face 2 was asked for, but only 2 found (counted from 0)"
    wanted = "a face at 200,100 was asked for, but there is none there; 2 found elsewhere"
    assert parse_face_choice("200,100").problem(2) == wanted


@pytest.mark.parametrize("text", ["", "-1", "1.5", "left", "1,2,3", "nan", "1,inf", "30,10,20,40", "-5,3", "1,2,3,4,5"])
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^face must be a number from 0, a point X,Y or a box X0,Y0,X1,Y1 in pixels"):
        parse_face_choice(text)
    with pytest.raises(ValueError, match="must not be negative"):
        FaceChoice(-1)
