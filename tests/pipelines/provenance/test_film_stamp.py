"""Labels that people can read."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.provenance.film_stamp import FilmStamp, check_label, with_label


def test_a_label_is_white_on_a_dark_strip_in_the_lower_left_corner() -> None:
    picture = np.full((480, 640, 3), 200, np.uint8)
    labelled = with_label(picture, "AI-generated")
    changed = np.argwhere((labelled != 200).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert (left, bottom) == (0, 479)
    assert 20 <= 480 - top <= 48
    assert 60 <= right <= 320
    strip = labelled[top : bottom + 1, left : right + 1]
    assert strip.max() >= 240, "letters"
    assert np.median(strip) == 90, "200 behind a shade of 0.55"
    assert 0.05 < (strip > 200).mean() < 0.5
    assert picture.min() == 200, "the picture that was given"


@pytest.mark.parametrize("size", [(64, 48), (390, 390), (48, 200), (1920, 1080)])
def test_a_label_fits_into_every_picture(size: tuple[int, int]) -> None:
    labelled = with_label(
        np.zeros((size[1], size[0], 3), np.uint8), "Généré par IA – wygenerował to automat – 人工智能"
    )
    assert labelled.shape == (size[1], size[0], 3)
    assert not labelled[:, -1].any(), "it ends before the right edge"
    assert labelled.max() > 60


def test_a_stamp_does_what_is_asked_for() -> None:
    picture = np.full((300, 400, 3), 120, np.uint8)
    assert FilmStamp("0" * 64, "none")(picture) is picture
    corner, rest = np.s_[280:, :60], np.s_[:200, 200:]
    labelled = FilmStamp("0" * 64, "none", "AI")(picture)
    assert (labelled[corner] != 120).any()
    assert (labelled[rest] == 120).all()
    assert (FilmStamp("0" * 64, "luma")(picture)[rest] != 120).any()


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("x" * 61, "a label has at most 60 characters, got 61"),
        ("two\nlines", r"the font for labels has no '\\n'"),
        ("हिन्दी", "the font for labels has no 'ह'"),
        ("   ", "a label of spaces cannot be read"),
    ],
)
def test_labels_that_cannot_be_shown(label: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_label(label)
