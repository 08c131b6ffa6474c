from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines import assets
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, MIRRORED
from pipelines.faces.mediapipe_detector import MEDIAPIPE_TO_IBUG, MeshReader
from pipelines.media import images
from training.warp.fit_skin_surface import skin_points
from training.warp.skin_surface import surface_points

MakeFace = Callable[..., np.ndarray]


def _surface(*faces: np.ndarray) -> np.ndarray:
    found: Tensor = surface_points(torch.from_numpy(np.stack(faces)).float())
    return found.numpy()


def test_the_skin_turns_grows_and_moves_with_the_landmarks(face: MakeFace) -> None:
    landmarks = face(38, 32, 34, yaw=8.0)
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    here, there = _surface(landmarks, 3 * landmarks @ quarter_turn + [100.0, -40.0])
    np.testing.assert_allclose(there, 3 * here @ quarter_turn + [100.0, -40.0], atol=1e-3)


def test_a_mirrored_face_has_mirrored_skin(face: MakeFace) -> None:
    landmarks = face(38, 0, 0, yaw=15.0, roll=5.0)
    here, there = _surface(landmarks, landmarks[[*MIRRORED]] * [-1, 1])
    distances = np.linalg.norm(here[:, None] * [-1, 1] - there, axis=-1)
    assert distances.min(axis=0).max() < 0.05
    assert distances.min(axis=1).max() < 0.05


def test_the_skin_lies_inside_the_face(face: MakeFace) -> None:
    """Its middle third from ear to ear and more, from the brows' height and above to the chin."""
    landmarks = face(38, 32, 34)
    (skin,) = _surface(landmarks)
    eyes = float(landmarks[45, 0] - landmarks[36, 0])
    assert np.ptp(skin[:, 0]) > 1.1 * eyes
    assert skin[:, 0].min() > landmarks[:17, 0].min()
    assert skin[:, 0].max() < landmarks[:17, 0].max()
    assert skin[:, 1].min() < landmarks[17:27, 1].min()
    assert skin[:, 1].max() == pytest.approx(landmarks[8, 1], abs=0.1 * eyes)


def test_what_trembles_alone_is_hardly_followed_and_a_brow_is(face: MakeFace) -> None:
    rest = face(100, 0, 0)
    one, brow = rest.copy(), rest.copy()
    one[19, 1] -= 2.0
    brow[17:22, 1] -= 2.0
    at_rest, with_one, with_brow = _surface(rest, one, brow)
    near = np.linalg.norm(at_rest - rest[19], axis=1).argmin()
    assert -(with_one - at_rest)[near, 1] < 0.8
    assert -(with_brow - at_rest)[near, 1] > 1.2


def test_a_face_that_is_one_point_has_its_skin_there() -> None:
    np.testing.assert_allclose(_surface(np.full((68, 2), 7.0)), 7.0)


def test_points_that_are_no_face_have_their_skin_among_them() -> None:
    """However little they are alike, none is thrown far off."""
    random = np.random.default_rng(0)
    noise = random.uniform(-1, 1, (500, 68, 2))
    assert np.abs(_surface(*noise)).max() < 20


def test_an_unlike_head_is_no_matter() -> None:
    """A face twice as wide as any has skin twice as wide."""
    wide = CANONICAL_LANDMARKS[:, :2] * [2.0, 1.0]
    narrow, broad = _surface(CANONICAL_LANDMARKS[:, :2], wide)
    assert np.ptp(broad[:, 0]) == pytest.approx(2 * np.ptp(narrow[:, 0]), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["astronaut", "mona_lisa"])
def test_the_skin_lies_where_mediapipe_sees_it(name: str) -> None:
    mesh = MeshReader().read(images.read_image(assets.fetch(name)))
    assert mesh is not None
    landmarks = mesh[MEDIAPIPE_TO_IBUG]
    eyes = np.linalg.norm(landmarks[36:42].mean(axis=0) - landmarks[42:48].mean(axis=0))
    skin = mesh[skin_points()]
    nearest = np.linalg.norm(_surface(landmarks)[0][:, None] - skin, axis=-1).min(axis=1)
    assert nearest.mean() < 0.03 * eyes
