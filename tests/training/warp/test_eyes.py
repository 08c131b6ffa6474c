from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from training.warp.apply import warp_person
from training.warp.control_points import control_points
from training.warp.eyes import Gaze
from training.warp.field import WarpField, warp_field
from training.warp.matted_shot import make_shot
from training.warp.spline import warp

SIZE = 256
WIDTH, HEIGHT = 40, 14  # pixels of the eyes
RADIUS = 0.22 * WIDTH
MakeFace = Callable[..., np.ndarray]


@pytest.fixture
def open_eyed(face: MakeFace) -> np.ndarray:
    """A face with almond eyes, 40 pixels wide and 14 high, in a crop of SIZE pixels."""
    landmarks = face(150, 128, 140)
    for corner, middle in ((36, 96.0), (42, 160.0)):
        landmarks[corner], landmarks[corner + 3] = (middle - WIDTH / 2, 120), (middle + WIDTH / 2, 120)
        for point, across, down in ((1, -7, -1), (2, 7, -1), (4, 7, 1), (5, -7, 1)):
            landmarks[corner + point] = middle + across, 120 + down * HEIGHT / 2
    return landmarks


def _turned(
    source: np.ndarray, target: np.ndarray, before: tuple[float, float], after: tuple[float, float]
) -> WarpField:
    """Both irises from one place in their eyes to another."""
    points = (torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in (source, target))
    places = (torch.tensor(place).expand(1, 2, 2) for place in (before, after))
    return warp_field(*points, gaze=Gaze(*places))


def _paints_nothing(bent: WarpField) -> bool:
    white = torch.ones(1, 3, SIZE, SIZE)
    return torch.equal(bent.paint_openings(white, -white), white)


def _disc(landmarks: np.ndarray, corner: int, across: float, radius: float = RADIUS) -> Float[Tensor, "1 1 size size"]:
    """1 in a disc in the middle between the lids, so far across the eye."""
    rows, columns = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float32)] * 2, indexing="ij")
    x, y = landmarks[corner] + np.array([WIDTH * across, 0])
    return (((columns - x) ** 2 + (rows - y) ** 2).sqrt() < radius).float()[None, None]


def _middle(picture: Tensor, rows: slice, columns: slice) -> tuple[float, float]:
    """Of what is light, in pixels: across, down."""
    part = picture[0, 0, rows, columns].double()
    y, x = (torch.arange(span.start, span.stop, dtype=torch.float64) for span in (rows, columns))
    return float((part.sum(0) * x).sum() / part.sum()), float((part.sum(1) * y).sum() / part.sum())


@pytest.mark.parametrize("corner", [36, 42])
def test_an_iris_goes_where_it_is_to_lie(open_eyed: np.ndarray, corner: int) -> None:
    iris = _disc(open_eyed, corner, 0.5)
    shown = warp(iris, _turned(open_eyed, open_eyed, (0.5, 0.0), (0.62, 0.0)).grid(SIZE))
    eye = slice(114, 127), slice(int(open_eyed[corner, 0]), int(open_eyed[corner + 3, 0]) + 1)
    x, y = _middle(shown, *eye)
    assert x == pytest.approx(open_eyed[corner, 0] + 0.62 * WIDTH, abs=0.7)
    assert y == pytest.approx(120, abs=0.5)
    # As large as it was, and as much of it is seen.
    assert float(shown[0, 0, eye[0], eye[1]].sum()) == pytest.approx(float(iris[0, 0, eye[0], eye[1]].sum()), rel=0.05)


def test_a_pupil_goes_up_and_down_with_its_iris(open_eyed: np.ndarray) -> None:
    pupil = _disc(open_eyed, 36, 0.5, radius=2.6)
    eye = slice(114, 127), slice(round(float(open_eyed[36, 0])), round(float(open_eyed[39, 0])))
    for down in (-0.06, 0.06):
        shown = warp(pupil, _turned(open_eyed, open_eyed, (0.5, 0.0), (0.5, down)).grid(SIZE))
        assert _middle(shown, *eye)[1] == pytest.approx(120 + down * WIDTH, abs=0.3)
        assert float(shown.sum()) == pytest.approx(float(pupil.sum()), rel=0.1)


def test_an_eye_that_does_not_turn_is_what_lids_make_of_it(open_eyed: np.ndarray) -> None:
    lowered = open_eyed.copy()
    lowered[[37, 38, 43, 44], 1] += 4
    # The iris of an eye that is shut by two sevenths, from above, lies in the middle of what is left, more or less.
    for target, down, tolerance in ((open_eyed, 0.0, 1e-3), (lowered, 0.05, 0.5)):
        points = [torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in (open_eyed, target)]
        kept = _turned(open_eyed, target, (0.4, 0.0), (0.4, down))
        assert (kept.grid(SIZE) - warp_field(*points).grid(SIZE)).abs().max() * SIZE / 2 < tolerance
        assert _paints_nothing(kept)


def test_lids_and_all_around_stay(open_eyed: np.ndarray) -> None:
    points = torch.from_numpy(control_points(open_eyed[None], SIZE))
    moved = _turned(open_eyed, open_eyed, (0.5, 0.0), (0.35, 0.08)).grid(SIZE) - warp_field(points, points).grid(SIZE)
    pixels = moved[0].norm(dim=-1) * SIZE / 2
    eyes = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for corner in (36, 42):
        x = round(float(open_eyed[corner, 0]))
        eyes[111:130, x : x + WIDTH + 1] = True
    assert float(pixels[~eyes].max()) < 1e-3
    assert float(pixels[eyes].max()) > 4


def test_a_shut_eye_does_not_turn(open_eyed: np.ndarray) -> None:
    """Neither one that shuts nor one that was shut in the picture and opens."""
    shut = open_eyed.copy()
    shut[[37, 38, 40, 41, 43, 44, 46, 47], 1] = 120
    for pair in ((open_eyed, shut), (shut, open_eyed)):
        points = [torch.from_numpy(control_points(landmarks[None], SIZE)) for landmarks in pair]
        turned = _turned(*pair, (0.5, 0.0), (0.7, 0.0))
        assert (turned.grid(SIZE) - warp_field(*points).grid(SIZE)).abs().max() * SIZE / 2 < 0.1
        assert _paints_nothing(turned)


def test_an_iris_that_leaves_its_corner_is_whole_and_white_comes_to_light_beside_it(open_eyed: np.ndarray) -> None:
    """Grey skin, white eyes, and black irises at the right corner, a quarter of which it hides."""
    picture = torch.full((1, 3, SIZE, SIZE), 0.2)
    for corner in (36, 42):
        x = round(float(open_eyed[corner, 0]))
        picture[..., 113:128, x : x + WIDTH] = 0.9
        picture = torch.where(_disc(open_eyed, corner, 0.9) > 0, -1.0, picture)
        picture[..., x + WIDTH :] = 0.2 if corner == 42 else picture[..., x + WIDTH :]
        picture[..., x + WIDTH : x + WIDTH + 9] = 0.2
    turned = _turned(open_eyed, open_eyed, (0.9, 0.0), (0.5, 0.0))
    shown = warp_person(make_shot(picture, torch.ones(1, SIZE, SIZE)), turned)[0, 0]
    for corner in (36, 42):
        row, x = shown[120], float(open_eyed[corner, 0])
        iris = row[round(x + 0.3 * WIDTH) : round(x + 0.7 * WIDTH)]
        assert float(iris.max()) < -0.8
        left, right = (
            row[round(x + 0.1 * WIDTH) : round(x + 0.2 * WIDTH)],
            row[round(x + 0.8 * WIDTH) : round(x + 0.88 * WIDTH)],
        )
        assert float(left.min()) > 0.7
        assert float(right.min()) > 0.4  # a little shaded
        assert float((row[round(x + WIDTH) + 3 :][:4] - 0.2).abs().max()) < 0.02


def test_what_is_cut_out_of_a_batch_keeps_its_gaze(open_eyed: np.ndarray) -> None:
    faces = np.stack([open_eyed, open_eyed])
    points = torch.from_numpy(control_points(faces, SIZE))
    irises = torch.tensor([0.5, 0.0]).expand(2, 2, 2), torch.tensor([[0.4, 0.0], [0.6, 0.0]])[:, None].expand(2, 2, 2)
    both = warp_field(points, points, gaze=Gaze(*irises))
    assert torch.equal(both[1:].grid(SIZE)[0], both.grid(SIZE)[1])
    assert not torch.equal(both.grid(SIZE)[0], both.grid(SIZE)[1])
