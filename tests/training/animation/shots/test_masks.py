from collections.abc import Callable

import numpy as np
import pytest

from training.animation.shots.masks import opening_mask, part_mask

# Of a face of 200 pixels in the middle of a region of 400: its mouth, chin, an eye, a brow, and its hair.
_PLACES = {"mouth": [57], "chin": [8], "eye": [37, 41], "brow": [19], "nose": [28]}


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [
        (("lips",), {"mouth", "chin"}, {"eye", "brow", "nose"}),
        (("eyes",), {"eye"}, {"mouth", "chin"}),
        (("gaze",), {"eye"}, {"mouth", "chin", "brow"}),
        (("lips", "brows"), {"mouth", "chin", "brow"}, set()),
        (("pose",), {"mouth", "eye", "nose"}, set()),
    ],
)
def test_a_mask_covers_what_its_parts_move(
    face: Callable[..., np.ndarray], parts: tuple[str, ...], inside: set[str], outside: set[str]
) -> None:
    own = face(200, 200, 200)
    mask = part_mask(own, own, parts, 400)[..., 0]
    assert mask[0].max() < 0.01  # the border of the region stays

    def at(name: str) -> float:
        x, y = own[_PLACES[name]].mean(axis=0).round().astype(int)
        return float(mask[y, x])

    assert all(at(name) > 0.6 for name in inside)
    assert all(at(name) < 0.05 for name in outside)


def test_only_the_mouth_is_taken_from_another_frame(face: Callable[..., np.ndarray]) -> None:
    own = face(200, 200, 200)
    mask = opening_mask(own, "lips", 400)[..., 0]
    x, y = own[[62, 66]].mean(axis=0).round().astype(int)
    assert mask[y, x] > 0.9
    x, y = own[8].round().astype(int)
    assert mask[y, x] == 0
