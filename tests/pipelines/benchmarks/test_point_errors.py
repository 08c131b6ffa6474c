import numpy as np
import pytest

from pipelines.benchmarks.point_errors import PARTS, error_of, eye_distance, per_mille, percent, shows_face
from pipelines.faces.face import make_face


def points_with_eyes_apart() -> np.ndarray:
    points = np.zeros((68, 2))
    points[45] = (60, 80)  # 100 from point 36
    return points


def test_the_unit_of_an_error_is_the_distance_of_the_eyes_outer_corners() -> None:
    points = points_with_eyes_apart()
    assert eye_distance(points) == pytest.approx(100)
    landmarks = points + np.array([3.0, 4.0])
    landmarks[8] = (0, 25)
    error = error_of(landmarks, points)
    assert error[[0, 45]] == pytest.approx([0.05, 0.05])
    assert error[8] == pytest.approx(0.25)


def test_the_parts_are_all_points_once() -> None:
    numbers = [number for part in PARTS.values() for number in range(68)[part]]
    assert sorted(numbers) == list(range(68))
    assert [len(range(68)[part]) for part in PARTS.values()] == [17, 10, 9, 12, 12, 8]
    assert {
        point: name for point in (8, 21, 30, 36, 54, 64) for name, part in PARTS.items() if point in range(68)[part]
    } == {8: "jaw", 21: "brows", 30: "nose", 36: "eyes", 54: "outer lips", 64: "inner lips"}


@pytest.mark.parametrize(("right", "same"), [(99.0, True), (101.0, False)])
def test_a_face_is_the_known_one_within_an_eye_distance(right: float, same: bool) -> None:
    points = points_with_eyes_apart()
    assert shows_face(make_face(points + np.array([right, 0.0]), 1.0), points) is same


def test_figures_are_means_over_faces_and_points() -> None:
    errors = [np.full(68, 0.02), np.full(68, 0.05)]
    errors[1][:17] = 0.12
    assert percent(errors) == "4.4 %"  # (68 * 2 + 51 * 5 + 17 * 12) / 136 = 4.375
    assert percent(errors, slice(17, 68)) == "3.5 %"
    assert per_mille(errors, slice(0, 17)) == 70
    assert percent([]) == ""
