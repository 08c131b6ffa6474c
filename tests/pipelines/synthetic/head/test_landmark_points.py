"""Points on the skin: the nearest place of a mesh, and which of two equally near."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pipelines.synthetic.head.landmark_points import nearest_in_triangles


@pytest.mark.slow
def test_the_nearest_place_is_that_of_a_search_over_each_triangle() -> None:
    rng = np.random.default_rng(0)
    corners, points = rng.normal(size=(12, 3, 3)), rng.normal(size=(20, 3)) * 1.5
    triangles, weights = nearest_in_triangles(torch.from_numpy(points), torch.from_numpy(corners))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(dim=1), 1)
    found = np.linalg.norm((corners[triangles] * weights.numpy()[..., None]).sum(axis=1) - points, axis=1)

    def distance(shares: np.ndarray, triangle: np.ndarray, point: np.ndarray) -> float:
        return float(np.linalg.norm(shares @ triangle - point))

    sums_to_one = {"type": "eq", "fun": lambda shares: shares.sum() - 1}
    for point, nearest in zip(points, found, strict=True):
        searched = (
            minimize(distance, np.full(3, 1 / 3), (triangle, point), bounds=[(0, 1)] * 3, constraints=sums_to_one).fun
            for triangle in corners
        )
        np.testing.assert_allclose(nearest, min(searched), atol=1e-5)


def test_of_two_halves_equally_near_the_first_is_taken_whatever_the_rounding() -> None:
    # A point between the halves of a face, in front of either. Each is moved and turned, so that rounding differs.
    rng = np.random.default_rng(1)
    half = np.array([[0.2, 0.0, 0.0], [1.0, 0.3, 0.1], [0.7, 1.0, -0.2]])
    corners = np.stack([half, half * [-1, 1, 1]])
    for _ in range(50):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        place = rng.normal(size=3)
        moved = torch.from_numpy(corners @ turn + place)
        point = torch.from_numpy(np.array([[0.0, 0.4, 0.5]]) @ turn + place)
        for order in ([0, 1], [1, 0]):
            triangles, _ = nearest_in_triangles(point, moved[order])
            assert triangles.tolist() == [0]
