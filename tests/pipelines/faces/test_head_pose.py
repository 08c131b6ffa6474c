import numpy as np
import pytest

from pipelines.faces.head_pose import (
    CANONICAL_LANDMARKS,
    SKULL_POINTS,
    Pose,
    eye_openness,
    fit_pose,
    gaze,
    mouth_openness,
    skull_points,
    unproject,
)


def looking(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, scale: float = 10.0) -> Pose:
    angles = (np.array(float(angle)) for angle in (yaw, pitch, roll))
    return Pose.from_angles(*angles, np.array(float(scale)), np.array([100.0, 80.0]))


def test_a_frontal_head_projects_to_its_own_x_and_y() -> None:
    points = looking(scale=2.0).project(np.array([[1.0, -3.0, 7.0]]))
    np.testing.assert_allclose(points, [[102.0, 74.0]])


def test_positive_angles_turn_right_look_up_and_tilt_clockwise() -> None:
    nose_tip = np.array([[0.0, 0.0, -10.0]])
    assert looking(yaw=30).project(nose_tip)[0, 0] == pytest.approx(100 + 10 * 10 * 0.5)  # sin 30 = 1/2
    assert looking(pitch=30).project(nose_tip)[0, 1] == pytest.approx(80 - 10 * 10 * 0.5)
    # A quarter turn clockwise takes a point at the right to below.
    np.testing.assert_allclose(looking(roll=90).project(np.array([[1.0, 0.0, 0.0]])), [[100.0, 90.0]], atol=1e-9)


def test_fit_recovers_the_pose_that_drew_the_landmarks() -> None:
    drawn = looking(yaw=-21, pitch=12, roll=7, scale=3.5)
    fitted = fit_pose(drawn.project(CANONICAL_LANDMARKS))
    found = [fitted.yaw, fitted.pitch, fitted.roll, fitted.scale]
    np.testing.assert_allclose(found, [-21, 12, 7, 3.5], atol=1e-9)
    np.testing.assert_allclose(fitted.translation, [100, 80], atol=1e-9)


def test_an_open_mouth_does_not_change_the_pose() -> None:
    head = CANONICAL_LANDMARKS.copy()
    head[[6, 7, 8, 9, 10, 55, 56, 57, 58, 59, 65, 66, 67], 1] += 2.0
    fitted = fit_pose(looking(pitch=5).project(head))
    assert float(fitted.pitch) == pytest.approx(5, abs=1e-6)


def test_unproject_and_project_are_inverse_and_batched() -> None:
    random = np.random.default_rng(0)
    landmarks = looking(yaw=15).project(CANONICAL_LANDMARKS) + random.normal(0, 2, (3, 68, 2))
    pose = fit_pose(landmarks)
    np.testing.assert_allclose(pose.project(unproject(landmarks, pose)), landmarks, atol=1e-9)


def test_skull_moves_with_the_head() -> None:
    pose = looking(yaw=10, scale=4)
    found = skull_points(pose.project(CANONICAL_LANDMARKS))
    np.testing.assert_allclose(found, pose.project(SKULL_POINTS), atol=1e-6)
    assert found[:, 1].min() < pose.project(CANONICAL_LANDMARKS)[:, 1].min()  # above the brows


def test_gaze_is_told_in_the_eyes_own_axes() -> None:
    landmarks = np.zeros((68, 2))
    landmarks[36], landmarks[39] = (10, 20), (30, 20)
    landmarks[42], landmarks[45] = (50, 20), (50, 40)  # a head on its side: downwards is to the left
    irises = np.array([(25.0, 22.0), (48.0, 25.0)])
    assert gaze(landmarks, irises) == pytest.approx(np.array([(0.75, 0.1), (0.25, 0.1)]))
    moved = gaze(np.stack([landmarks, 3 * landmarks + 7]), np.stack([irises, 3 * irises + 7]))
    assert moved[0] == pytest.approx(moved[1])


def test_openness_is_lid_distance_over_width() -> None:
    landmarks = np.zeros((68, 2))
    landmarks[36], landmarks[39] = (0, 0), (10, 0)
    landmarks[37], landmarks[41] = (3, -2), (3, 1)  # 3 apart
    landmarks[38], landmarks[40] = (7, -2), (7, 3)  # 5 apart: mean 4 of width 10
    landmarks[60], landmarks[64], landmarks[62], landmarks[66] = (0, 0), (8, 0), (4, -1), (4, 1)
    assert eye_openness(landmarks)[0] == pytest.approx(0.4)
    assert mouth_openness(landmarks) == pytest.approx(0.25)
