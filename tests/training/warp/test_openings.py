from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from training.warp.apply import warp_person
from training.warp.control_points import control_points
from training.warp.field import find_openings, warp_field
from training.warp.matted_shot import make_shot
from training.warp.openings import Opening, landmarks_at_source_openness, pixel_shifts, uncross_edges
from training.warp.spline import identity_grid, warp

SIZE = 128
RIGHT_EYE = ((37, 41), (38, 40))
LIDS = (*RIGHT_EYE, (43, 47), (44, 46))
LIPS = ((61, 67), (62, 66), (63, 65))
MakeFace = Callable[..., np.ndarray]


@pytest.fixture
def wide_open(face: MakeFace) -> np.ndarray:
    """A face with eyes 8 pixels high and a mouth 10 pixels open, in a crop of SIZE pixels."""
    landmarks = face(76, 64, 68)
    for upper, lower in LIDS:
        landmarks[upper, 1], landmarks[lower, 1] = landmarks[36, 1] - 5, landmarks[36, 1] + 3
    landmarks[[58, 57, 56], 1] += 10
    for upper, lower in LIPS:
        landmarks[upper, 1] = landmarks[60, 1] - 2
        landmarks[lower, 1] = landmarks[60, 1] + 8
    return landmarks


def _moved(landmarks: np.ndarray, pairs: tuple[tuple[int, int], ...], gap: float) -> np.ndarray:
    """The same, but so many pixels between the edges of these pairs, about the place that was a third from below."""
    changed = landmarks.copy()
    for upper, lower in pairs:
        middle = (landmarks[upper, 1] + 2 * landmarks[lower, 1]) / 3
        changed[upper, 1], changed[lower, 1] = middle - gap / 2, middle + gap / 2
    return changed


def _mouth_shut(wide_open: np.ndarray, gap: float) -> np.ndarray:
    """The same face, so many pixels between its lips."""
    shut = wide_open.copy()
    shut[[58, 57, 56], 1] -= 10
    for upper, lower in LIPS:
        shut[upper, 1], shut[lower, 1] = shut[60, 1] - gap / 2, shut[60, 1] + gap / 2
    return shut


def _tensor(landmarks: np.ndarray) -> Float[Tensor, "1 68 2"]:
    return torch.from_numpy((landmarks[None].astype(np.float32) + 0.5) * (2 / SIZE) - 1)


def _bent(source: np.ndarray, target: np.ndarray, picture: Tensor) -> np.ndarray:
    points = (torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in (source, target))
    shown: np.ndarray = warp(picture[None, None], warp_field(*points).grid(SIZE))[0, 0].numpy()
    return shown


def _between(landmarks: np.ndarray, upper: int, lower: int, margin: float = 0.0) -> Tensor:
    """1 in the rows between two landmarks, in the columns between the two pairs next to the middle of that opening."""
    picture = torch.zeros(SIZE, SIZE)
    rows = torch.arange(SIZE)
    inside = (rows >= landmarks[upper, 1] + margin) & (rows <= landmarks[lower, 1] - margin)
    first, last = landmarks[[37, 38] if upper < 48 else [61, 63], 0]
    picture[inside, round(float(first)) : round(float(last)) + 1] = 1
    return picture


def opened_pixels(places: torch.Tensor, extent: float, openings: list[Opening]) -> torch.Tensor:
    """Where each pixel of the target is when eyes and mouth are as open as in the source."""
    moved = places.repeat(len(openings[0].columns), 1, 1, 1)
    blocks = [opening.block(len(places), extent) for opening in openings]
    for rows, columns, shifts in pixel_shifts(places, openings, blocks):
        moved[:, rows, columns] += shifts
    return moved


def test_between_equal_openings_nothing_moves(wide_open: np.ndarray) -> None:
    face = _tensor(wide_open)
    openings = find_openings(face, face)
    places = identity_grid(SIZE, torch.device("cpu"))
    assert torch.equal(opened_pixels(places, 1.0, openings)[0], places)
    assert torch.equal(landmarks_at_source_openness(face, openings), face)


def test_landmarks_are_settled_where_the_source_has_them(wide_open: np.ndarray) -> None:
    """The corners of all openings are where they were, so that is the source's own places."""
    shut = _moved(_moved(wide_open, LIDS, 0.5), LIPS, 0.5)
    source, target = _tensor(wide_open), _tensor(shut)
    settled = landmarks_at_source_openness(target, find_openings(source, target))
    torch.testing.assert_close(settled, source, atol=0.2 * 2 / SIZE, rtol=0)  # pixels: an eye's corners slope a little


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.3, 0.0, -1.5])
def test_an_open_eye_shuts(gap: float, wide_open: np.ndarray) -> None:
    """Even where the upper lid is found under the lower one."""
    shut = _moved(wide_open, RIGHT_EYE, gap)
    eyeball = _between(wide_open, 37, 41, margin=0.5)
    before, after = _bent(wide_open, wide_open, eyeball).sum(), _bent(wide_open, shut, eyeball).sum()
    assert before > 35
    assert after < 0.1 * before


def test_lids_that_are_found_crossed_are_shut_ones(wide_open: np.ndarray) -> None:
    ordered = uncross_edges(_tensor(_moved(wide_open, LIDS, -2.0)))
    touching = _tensor(_moved(wide_open, LIDS, 0.0))
    torch.testing.assert_close(ordered, touching, atol=0.1 * 2 / SIZE, rtol=0)
    assert torch.equal(uncross_edges(_tensor(wide_open)), _tensor(wide_open))
    for upper, lower in LIDS:
        assert float(ordered[0, upper, 1]) < float(ordered[0, lower, 1])


def test_an_eye_half_shut_shows_all_of_the_eye_half_as_high(wide_open: np.ndarray) -> None:
    half = _moved(wide_open, RIGHT_EYE, 4.0)
    eyeball = _between(wide_open, 37, 41)
    before, after = _bent(wide_open, wide_open, eyeball), _bent(wide_open, half, eyeball)
    # What a detector still sees between lids that touch, 0.06 of the eye's width for one that shuts, is no eye.
    width = wide_open[39, 0] - wide_open[36, 0]
    assert after.sum() / before.sum() == pytest.approx((4.0 - 0.06 * width / 2) / 8.0, abs=0.12)


def test_a_narrow_line_shows_lashes_and_not_the_eye(wide_open: np.ndarray) -> None:
    narrow = _moved(wide_open, RIGHT_EYE, 1.2)
    lower_half = _between(wide_open, 37, 41)
    lower_half[: round((wide_open[37, 1] + wide_open[41, 1]) / 2)] = 0
    assert float(_bent(wide_open, narrow, lower_half).max()) < 0.2


def test_a_shut_eye_opens_without_tearing(wide_open: np.ndarray) -> None:
    """What fills it is the line between the lids."""
    shut = _moved(wide_open, RIGHT_EYE, 0.4)
    line = _between(shut, 37, 41, margin=-1.0)
    opened = _bent(shut, wide_open, line)
    inside = _between(wide_open, 37, 41, margin=1.0)[:, 1:].numpy() > 0
    inside[:, : round(wide_open[37, 0]) + 1] = inside[:, round(wide_open[38, 0]) :] = False
    assert inside.sum() > 10
    assert opened[:, 1:][inside].min() > 0.8


def test_between_lips_that_part_nothing_but_lips_is_seen(wide_open: np.ndarray) -> None:
    """No chin and no cheek is drawn into a mouth that was shut: a network has only to darken it."""
    shut = _mouth_shut(wide_open, 0.4)
    lips = _between(shut, 51, 57)
    opened, inside = _bent(shut, wide_open, lips), _between(wide_open, 62, 66, margin=0.5).numpy() > 0
    assert inside.sum() > 50
    assert opened[inside].min() > 0.9


def _cavity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How far each pixel shows it."""
    points = (torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in (source, target))
    white = torch.ones(1, 3, SIZE, SIZE)
    painted: np.ndarray = warp_field(*points).paint_openings(white, -white)[0, 0].numpy()  # black, whatever is painted
    return (1 - painted) / 2


def test_what_lips_that_part_uncover_is_known(wide_open: np.ndarray) -> None:
    """All that lies between them where the source has them shut, nothing where it is as open, and no lip."""
    shut = _mouth_shut(wide_open, 0.4)
    inside = _between(wide_open, 62, 66, margin=2.0).numpy() > 0
    lips = _between(wide_open, 51, 62).numpy() + _between(wide_open, 66, 57).numpy() > 0
    opened = _cavity(shut, wide_open)
    assert inside.sum() > 40
    assert opened[inside].min() > 0.9
    assert opened[lips].max() < 0.1
    assert opened.sum() < 3.2 * inside.sum()  # the ends of the mouth, beyond the columns of `inside`, belong to it
    assert _cavity(wide_open, wide_open).max() == 0
    assert _cavity(wide_open, shut).max() == 0


def test_a_mouth_opens_round(wide_open: np.ndarray) -> None:
    """Half way from its corner to the first pair of landmarks it is open by 0.65 of what it is there: a straight line
    would say half."""
    opened = _cavity(_mouth_shut(wide_open, 0.0), wide_open)
    corner, first = wide_open[60, 0], wide_open[61, 0]
    half_way = np.abs(opened[:, round(float((corner + first) / 2))]).sum()
    assert half_way / opened[:, round(float(first))].sum() == pytest.approx(0.65, abs=0.1)


def _opened(source: np.ndarray, target: np.ndarray, picture: Tensor) -> np.ndarray:
    """A picture whose mouth opens, as it is shown: rows, columns, colours."""
    points = (torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in (source, target))
    shot = make_shot(picture.expand(1, 3, SIZE, SIZE), torch.ones(1, SIZE, SIZE))
    shown: np.ndarray = warp_person(shot, warp_field(*points))[0, :3].permute(1, 2, 0).numpy()
    return shown


def test_a_mouth_that_opens_is_dark_above_and_has_a_tongue_below(wide_open: np.ndarray) -> None:
    """In the colour of its lips; the rest stays as it is."""
    grey, middle = torch.tensor(0.2), round(float(wide_open[62, 0]))
    top, bottom = (round(float(wide_open[lip, 1])) for lip in (62, 66))
    ajar = _opened(_mouth_shut(wide_open, 2.4), wide_open, grey)[:, middle]  # shows its own teeth, if it has any
    assert ajar[top + 4] == pytest.approx(0.42 * 1.2 - 1, abs=0.03)
    shut = _opened(_mouth_shut(wide_open, 0.4), wide_open, grey)[:, middle]
    assert shut[bottom - 2] == pytest.approx(0.88 * 1.2 - 1, abs=0.1)
    for column in (ajar, shut):
        assert column[[top - 2, bottom + 2]] == pytest.approx(0.2, abs=1e-3)


def test_a_mouth_that_was_shut_bares_its_upper_teeth(wide_open: np.ndarray) -> None:
    """In the skin's colour, a little paler and as light; the wider the mouth is drawn, the more of them."""
    picture = torch.tensor([0.6, 0.2, -0.2])[:, None, None].repeat(1, SIZE, SIZE)
    lips = _between(wide_open, 51, 57) > 0
    picture[:, lips] = torch.tensor([0.5, -0.6, -0.6])[:, None]
    teeth = np.array([0.2 + 0.85 * 0.4, 0.2, 0.2 - 0.85 * 0.4])
    width = float(wide_open[54, 0] - wide_open[48, 0])
    top, incisor = round(float(wide_open[62, 1])), round(float(wide_open[62, 0]) + 0.075 * width)
    shut = _mouth_shut(wide_open, 0.0)
    bared = []
    for drawn in (-5.0, 3.0):  # to the sides
        target = wide_open.copy()
        target[[48, 60], 0] -= drawn
        target[[54, 64], 0] += drawn
        column = _opened(shut, target, picture)[:, incisor]
        bared.append(column[top : top + 8])
    narrow, wide = (int((np.abs(each - teeth).max(axis=1) < 0.5).sum()) for each in bared)
    assert narrow == pytest.approx(0.06 * (width - 10), abs=1.5)
    assert wide == pytest.approx(0.15 * (width + 6), abs=1.5)
    assert bared[1][3] == pytest.approx(teeth, abs=0.1)


def test_a_mouth_that_shows_what_is_in_it_gets_no_other_teeth(wide_open: np.ndarray) -> None:
    ajar = _mouth_shut(wide_open, 3.0)
    white = torch.full((3, SIZE, SIZE), 1.0)
    white[:, _between(ajar, 51, 57) > 0] = -1.0  # lips and all between them
    shown = _opened(ajar, wide_open, white)
    assert shown[_between(wide_open, 62, 66, margin=1.0).numpy() > 0].max() < -0.6


def test_teeth_are_not_drawn_out_when_a_mouth_opens_further(wide_open: np.ndarray) -> None:
    """No more than by a quarter where it is three times as open, and most stay at the upper lip."""
    ajar = _mouth_shut(wide_open, 3.0)
    teeth, column = _between(ajar, 62, 66), round(float(wide_open[62, 0]))
    shown, before = _opened(ajar, wide_open, teeth)[:, column, 0].clip(0, 1), float(teeth[:, column].sum())
    assert before < shown.sum() < 1.25 * before + 1.5  # pixels in which they fade into the cavity; else it would be 10
    assert shown[: round(float(wide_open[62, 1] + wide_open[66, 1]) / 2)].sum() > 0.6 * shown.sum()


def test_an_open_mouth_shuts(wide_open: np.ndarray) -> None:
    shut = _mouth_shut(wide_open, -0.2)
    teeth = _between(wide_open, 62, 66, margin=1.0)
    before, after = _bent(wide_open, wide_open, teeth).sum(), _bent(wide_open, shut, teeth).sum()
    assert before > 50
    assert after < 0.1 * before


@pytest.mark.slow
def test_no_place_of_an_opening_passes_another() -> None:
    """Whatever the landmarks, mirrored faces and points in any disorder included: downwards stays downwards."""
    random = torch.Generator().manual_seed(0)
    places = identity_grid(48, torch.device("cpu"))
    for _ in range(20):
        source, target = (uncross_edges(torch.rand(3, 68, 2, generator=random) * 2 - 1) for _ in range(2))
        for opening in find_openings(source, target):
            asked = places.reshape(1, -1, 2).expand(3, -1, -1)
            shift = opening.shift(asked)
            assert torch.isfinite(shift).all()
            knots = opening.heights.unbind(1)
            for above, below in pairwise(knots):
                assert float((below - above).min()) >= -1e-5
            settled = opening.heights[:, 1:3] + opening.shifts
            assert float((settled[:, 0] - opening.heights[:, 0]).min()) >= -1e-5
            assert float((opening.heights[:, 3] - settled[:, 1]).min()) >= -1e-5


@pytest.mark.parametrize("extent", [1.0, 1.5])
def test_nothing_moves_outside_the_block_that_is_computed(extent: float, wide_open: np.ndarray) -> None:
    turned = wide_open @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [40.0, -20.0]
    source, target = _tensor(turned), _tensor(_moved(turned, (*LIDS, *LIPS), 1.0))
    openings = find_openings(source, target)
    places = extent * identity_grid(SIZE, torch.device("cpu"))
    everywhere = places.reshape(1, -1, 2)
    expected = everywhere + sum(opening.shift(everywhere) for opening in openings)
    torch.testing.assert_close(
        opened_pixels(places, extent, openings), expected.view(1, SIZE, SIZE, 2), atol=1e-6, rtol=0
    )
    assert float((expected - everywhere).abs().max()) > 0.01


def test_a_face_outside_the_picture_is_no_matter(wide_open: np.ndarray) -> None:
    far = wide_open + np.array([3 * SIZE, -2 * SIZE])
    source, target = _tensor(far), _tensor(_moved(far, LIDS, 0.0))
    places = identity_grid(SIZE, torch.device("cpu"))
    assert torch.equal(opened_pixels(places, 1.0, find_openings(source, target))[0], places)
