"""Measures of motion by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from training.evaluation.metrics.landmark_motion import correlation, head_motion, jitter, landmark_error

Face = Callable[..., np.ndarray]


def test_landmark_error_is_in_percent_of_the_eye_distance() -> None:
    wanted = np.zeros((2, 68, 2), np.float32)
    wanted[:, 45] = (50, 0)  # the eyes' corners: 50 pixels apart
    found = wanted.copy()
    found[0] += (3, 4)  # every point 5 pixels off: a tenth
    found[1, 8] += (0, 68)  # one of 68 points 68 pixels off: 1 on average
    np.testing.assert_allclose(landmark_error(found, wanted), [10.0, 2.0])


def test_head_motion_compares_how_much_heads_turn(face: Face) -> None:
    angles = np.array([-10.0, -4.0, 0.0, 6.0, 8.0])
    driver = np.stack([face(yaw=angle) for angle in angles])
    half = np.stack([face(yaw=angle / 2, x=20.0) for angle in angles])
    still = np.stack([face(yaw=5.0)] * 5)
    ratios = head_motion(half, driver)
    assert ratios["yaw"] == pytest.approx(0.5, abs=1e-3)
    assert ratios["all"] == pytest.approx(0.5, abs=1e-3)
    assert np.isnan(ratios["roll"])  # the driver's head does not tilt: there is nothing to follow
    assert head_motion(still, driver)["all"] == pytest.approx(0, abs=1e-3)
    assert np.isnan(head_motion(driver, still)["all"])


def test_jitter_is_the_second_difference_by_hand() -> None:
    points = np.zeros((4, 68, 2), np.float32)
    points[:, 45] = (20, 0)
    steady = points + np.arange(4, dtype=np.float32)[:, None, None] * (1, 0)
    shaking = points + np.array([0, 1, 0, 1], np.float32)[:, None, None] * (1, 0)
    seen = np.ones(4, bool)
    assert jitter(steady, seen) == pytest.approx(0)
    assert jitter(shaking, seen) == pytest.approx(100 * 2 / 20)  # +-2 pixels of 20
    assert jitter(shaking, np.array([True, True, True, False])) == pytest.approx(10)
    assert np.isnan(jitter(shaking, np.array([True, False, True, True])))


def test_correlation_by_hand_and_of_what_does_not_move() -> None:
    assert correlation(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])) == pytest.approx(1)
    assert correlation(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])) == pytest.approx(-1)
    # Deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2.
    assert correlation(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0])) == pytest.approx(0.5)
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))
    assert np.isnan(correlation(np.arange(2.0), np.arange(2.0)))
