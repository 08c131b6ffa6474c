import pytest
import torch
from torch import Tensor

from training.warp.matted_shot import make_shot, uncovered_background

SIZE = 64


def _person(left: int, right: int) -> Tensor:
    """A matte of somebody who takes up these columns."""
    matte = torch.zeros(1, SIZE, SIZE)
    matte[..., left:right] = 1
    return matte


def test_behind_a_person_lies_what_surrounds_it() -> None:
    matte = _person(24, 40)
    picture = torch.where(matte[:, None] > 0, 0.9, -0.5).expand(1, 3, SIZE, SIZE)
    background = make_shot(picture, matte)[:, 4:]
    torch.testing.assert_close(background, torch.full_like(background, -0.5), atol=1e-3, rtol=0)


def test_what_is_guessed_leads_from_one_side_to_the_other() -> None:
    matte = _person(16, 48)
    sides = torch.where(torch.arange(SIZE) < SIZE // 2, -0.8, 0.8)
    picture = torch.where(matte[:, None] > 0, torch.zeros(()), sides).expand(1, 3, SIZE, SIZE)
    row = make_shot(picture, matte)[0, 4, 32]
    torch.testing.assert_close(row[:12], torch.full((12,), -0.8), atol=1e-3, rtol=0)
    torch.testing.assert_close(row[52:], torch.full((12,), 0.8), atol=1e-3, rtol=0)
    assert float(row.diff().min()) > -1e-3
    assert float(row.diff().max()) < 0.2  # of 1.6 in all: no edge
    assert abs(float(row[31:33].mean())) < 0.05


def test_where_all_is_person_there_is_no_background_but_the_picture() -> None:
    picture = torch.rand(1, 3, SIZE, SIZE)
    shot = make_shot(picture, torch.ones(1, SIZE, SIZE))
    assert torch.equal(shot[:, 4:], picture)


def test_pictures_of_any_size_are_filled() -> None:
    for size in (2, 7, 33, 100):
        shot = make_shot(torch.full((1, 3, size, size), 0.25), torch.rand(1, size, size))
        torch.testing.assert_close(shot[:, 4:], torch.full((1, 3, size, size), 0.25), atol=1e-4, rtol=0)


def test_around_a_person_who_did_not_move_the_picture_stands() -> None:
    matte, picture = _person(24, 40), torch.rand(1, 3, SIZE, SIZE)
    seen = uncovered_background(make_shot(picture, matte), matte[:, None])
    outside = matte.expand(3, -1, -1)[None] == 0
    assert torch.equal(seen[outside], picture[outside])


def test_nothing_of_a_person_who_moved_stays_behind() -> None:
    """Hardly even of hair that is in no matte, a column on either side of it."""
    picture = torch.full((1, 3, SIZE, SIZE), -0.5)
    picture[..., 23:41] = 0.9
    matte = _person(24, 40)
    shot, nobody = make_shot(picture, matte), torch.zeros(1, 1, SIZE, SIZE)
    seen = uncovered_background(shot, nobody)
    assert float(seen[..., 24:40].max()) < -0.2
    assert float(seen.max()) < 0.2


@pytest.mark.parametrize(
    ("person", "behind_it"),
    [((16, 48), slice(20, 44)), ((0, 40), slice(24, 36)), ((24, 64), slice(28, 40))],  # at an edge as far as it mirrors
)
def test_what_is_uncovered_has_the_grain_beside_it(person: tuple[int, int], behind_it: slice) -> None:
    """A person goes from a chequered ground: chequers where they were, in the colour around."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    chequers = (0.2 * ((rows + columns) % 2) - 0.1).expand(1, 3, SIZE, SIZE)
    matte = _person(*person)
    picture = torch.where(matte[:, None] > 0, 0.9, chequers - 0.5)
    uncovered = uncovered_background(make_shot(picture, matte), torch.zeros(1, 1, SIZE, SIZE))[0, 0, :, behind_it]
    assert abs(float(uncovered.mean()) + 0.5) < 0.02
    assert 0.06 < float(uncovered.std()) < 0.12


def test_edges_are_not_taken_for_grain() -> None:
    """A bar that stands beside a person stands there once."""
    matte, picture = _person(24, 40), torch.full((1, 3, SIZE, SIZE), -0.5)
    picture += 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    picture[..., 16:18] = 0.9
    seen = uncovered_background(make_shot(picture, matte), torch.zeros(1, 1, SIZE, SIZE))
    assert float(seen[..., 26:38].max()) < 0
