"""The z-buffer: which pixels a triangle covers, which of two is nearer, and what lies between its corners."""

import numpy as np
import pytest
import torch
from jaxtyping import Float32

from pipelines.synthetic.graphics.rasterizer import rasterize


def seen(corners: list[list[float]], faces: list[list[int]], *, two_sided: bool = False) -> Float32[np.ndarray, "8 8"]:
    """The triangle that each pixel of an 8 x 8 picture shows; -1 for none."""
    found = rasterize(torch.tensor([corners]), torch.tensor(faces), 8, 8, two_sided=two_sided)
    picture = torch.full((64,), -1.0)
    picture[found.pixels] = found.triangles.float()
    return picture.reshape(8, 8).numpy()


SQUARE = [[2.0, 1.0, 0.5], [6.0, 1.0, 0.5], [2.0, 4.0, 0.5], [6.0, 4.0, 0.5]]


def test_two_triangles_cover_a_rectangle_without_a_gap_and_nothing_beside() -> None:
    picture = seen(SQUARE, [[0, 2, 1], [1, 2, 3]])
    expected = np.zeros((8, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(picture >= 0, expected)


def test_triangles_seen_from_behind_are_left_out_unless_asked_for() -> None:
    assert (seen(SQUARE, [[0, 1, 2], [1, 3, 2]]) < 0).all()
    assert (seen(SQUARE, [[0, 1, 2], [1, 3, 2]], two_sided=True) >= 0).sum() == 12


def test_the_nearer_triangle_is_seen_whatever_the_order() -> None:
    far = [[0.0, 0.0, 0.2], [0.0, 8.0, 0.2], [8.0, 0.0, 0.2]]
    near = [[0.0, 0.0, 0.6], [0.0, 4.0, 0.6], [4.0, 0.0, 0.6]]
    for first, second in ((far, near), (near, far)):
        picture = seen(first + second, [[0, 1, 2], [3, 4, 5]])
        assert picture[1, 1] == (1 if second is near else 0)
        assert picture[1, 5] == (0 if second is near else 1)


def test_weights_are_those_of_the_surface_not_of_its_picture() -> None:
    # A wall that recedes from depth 1 on the left to depth 3 on the right. Half-way across the picture, at 1 / depth
    # 2 / 3, the ray meets the wall at depth 1.5: a quarter of the way along.
    corners = torch.tensor([[[0.5, 0.5, 1.0], [0.5, 8.5, 1.0], [8.5, 0.5, 1 / 3]]])
    found = rasterize(corners, torch.tensor([[0, 1, 2]]), 9, 9)
    at = int((found.pixels == 4).nonzero()[0, 0])
    np.testing.assert_allclose(found.weights[at], [0.75, 0.0, 0.25], atol=1e-6)
    np.testing.assert_allclose(found.inverse_depth[at], 2 / 3, atol=1e-6)


@pytest.mark.slow
def test_random_triangles_are_seen_as_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-4, 28, (2, 90, 3)).astype(np.float32)
    corners[..., 2] = rng.uniform(0.1, 0.9, (2, 90))
    faces = rng.permutation(90).reshape(30, 3)
    found = rasterize(torch.from_numpy(corners), torch.from_numpy(faces), 24, 24, two_sided=True)
    picture = np.full((2, 24, 24), -1)
    picture.reshape(-1)[found.pixels] = found.triangles
    for frame in range(2):
        for row in range(24):
            for column in range(24):
                assert picture[frame, row, column] == _nearest(corners[frame], faces, column + 0.5, row + 0.5)


def _nearest(corners: np.ndarray, faces: np.ndarray, x: float, y: float) -> int:
    best, nearest = -1, 0.0
    for index, face in enumerate(faces):
        points = corners[face].astype(np.float64)
        system = np.stack([points[:, 0], points[:, 1], np.ones(3)])
        weights = np.linalg.solve(system, [x, y, 1.0])
        if (weights >= 0).all() and weights @ points[:, 2] > nearest:
            best, nearest = index, weights @ points[:, 2]
    return best


def test_what_lies_outside_the_picture_or_behind_the_camera_is_left_out() -> None:
    outside = [[-9.0, -9.0, 0.5], [-9.0, -2.0, 0.5], [-2.0, -9.0, 0.5]]
    behind = [[0.0, 0.0, 0.5], [0.0, 8.0, 0.5], [8.0, 0.0, 0.0]]
    assert (seen(outside + behind, [[0, 1, 2], [3, 4, 5]]) < 0).all()
    cut = [[-8.0, -8.0, 0.5], [-8.0, 24.0, 0.5], [24.0, -8.0, 0.5]]
    assert (seen(cut, [[0, 1, 2]]) == 0).all()
