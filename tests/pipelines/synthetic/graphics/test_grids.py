"""Triangles of grids, counted and checked by what every closed surface obeys."""

from collections import Counter

import pytest
from torch import Tensor

from pipelines.synthetic.graphics.grids import grid_faces


def edges(faces: Tensor) -> Counter[tuple[int, int]]:
    """How often each edge is walked, in its direction."""
    return Counter(
        (a, b) for triangle in faces.tolist() for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True)
    )


def test_two_cells_by_hand() -> None:
    # 0 1 2
    # 3 4 5
    assert sorted(map(sorted, grid_faces(2, 3).tolist())) == [[0, 1, 3], [1, 2, 4], [1, 3, 4], [2, 4, 5]]


@pytest.mark.parametrize(
    ("joined", "triangles", "borders"),
    [({}, 24, 14), ({"closed": True}, 30, 10), ({"closed": True, "ring": True}, 40, 0)],
)
def test_all_triangles_turn_one_way_and_only_a_border_has_one(
    joined: dict[str, bool], triangles: int, borders: int
) -> None:
    faces = grid_faces(4, 5, **joined)
    walked = edges(faces)
    assert len(faces) == triangles
    assert set(walked.values()) == {1}  # neighbours walk their edge in opposite directions
    assert sum((b, a) not in walked for a, b in walked) == borders
