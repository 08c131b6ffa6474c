from fractions import Fraction

import pytest

from pipelines.planning.voxceleb_boxes import parse

# As VoxCeleb2 writes them: fractions of the picture.
VOXCELEB2 = """Identity  : \tid00017
Reference : \t01dfn2spqyE
Offset    : \t-2
FV Conf   : \t18.176\t(1)
ASD Conf  : \t5.218

FRAME \tX \tY \tW \tH
000100 \t0.250 \t0.100 \t0.200 \t0.400
000101 \t0.260 \t0.100 \t0.200 \t0.400
000102 \t0.270 \t0.100 \t0.200 \t0.400
"""
# As VoxCeleb1 writes them: pixels of a picture 360 high.
VOXCELEB1 = VOXCELEB2.partition("FRAME")[0] + "FRAME\tX\tY\tW\tH\n50\t148\t54\t193\t193\n54\t152\t54\t193\t193\n"


def test_fractions_become_pixels_of_the_picture() -> None:
    track = parse(VOXCELEB2)
    assert track.in_fractions
    assert track.span == (Fraction(4), Fraction(103, 25))
    assert track.boxes_at({7: 4.0, 8: 4.04}, 640, 360) == {
        7: pytest.approx((160, 36, 288, 180)),
        8: pytest.approx((166.4, 36, 294.4, 180)),
    }


def test_pixels_are_scaled_by_the_pictures_height() -> None:
    track = parse(VOXCELEB1)
    assert not track.in_fractions
    assert track.boxes_at({0: 2.0}, 1280, 720) == {0: pytest.approx((296, 108, 682, 494))}


def test_between_two_boxes_lies_one_and_outside_none() -> None:
    track = parse(VOXCELEB1)
    assert track.boxes_at({1: 2.08, 2: 1.5, 3: 2.5}, 640, 360) == {1: pytest.approx((150, 54, 343, 247))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no boxes"),
        ("Identity : id1\n1 2 3 4 5\n", "holds no boxes"),
        ("FRAME X Y W H\n1 2 3 4\n", "line 2 is not FRAME X Y W H: '1 2 3 4'"),
        ("FRAME X Y W H\n1 2 3 4 nan\n", "line 2 is not"),
        ("FRAME X Y W H\none 2 3 4 5\n", "line 2 is not"),
    ],
)
def test_what_is_no_file_of_boxes_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
