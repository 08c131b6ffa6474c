from collections.abc import Callable

import numpy as np
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, LEFT_EYE, RIGHT_EYE
from training.animation.gaze import retarget_gaze
from training.animation.retarget import MotionOptions

MakeFace = Callable[..., np.ndarray]
RAW = MotionOptions(smoothing=0.0, neutral_frame=0)
HERS = np.array([[0.55, 0.02], [0.6, -0.01]], np.float32)


def looking(*places: tuple[float, float]) -> np.ndarray:
    """Both eyes alike, frame by frame."""
    return np.array([[place, place] for place in places], np.float32)


def test_both_eyes_go_as_the_drivers_do(face: MakeFace) -> None:
    driver = np.array([*[[[0.5, 0.0], [0.48, 0.0]]] * 2, [[0.53, -0.01], [0.49, -0.03]]], np.float32)
    moved = retarget_gaze(HERS, driver, np.stack([face()] * 3), 25.0, RAW)
    assert moved.dtype == np.float32
    assert moved[0] == pytest.approx(HERS, abs=1e-6)
    # On average 0.02 to the right and up; hardly bent so near to where they were.
    assert moved[2] - HERS == pytest.approx(np.array([[0.02, -0.02]] * 2), abs=1e-3)


def test_strength(face: MakeFace) -> None:
    driver, still = looking((0.5, 0.0), (0.5, 0.0), (0.54, 0.02)), np.stack([face()] * 3)
    none, half = (
        retarget_gaze(HERS, driver, still, 25.0, MotionOptions(smoothing=0.0, neutral_frame=0, gaze=gaze))
        for gaze in (0.0, 0.5)
    )
    assert none == pytest.approx(np.stack([HERS] * 3), abs=1e-6)
    assert half[2] - HERS == pytest.approx(np.array([[0.02, 0.01]] * 2), abs=1e-3)


def test_irises_stay_where_a_portrait_can_show_them(face: MakeFace) -> None:
    driver = looking((0.5, 0.0), (1.5, 1.0), (-0.5, -1.0))
    moved = retarget_gaze(HERS, driver, np.stack([face()] * 3), 25.0, RAW)
    assert moved[1, :, 0] == pytest.approx([0.76, 0.76], abs=1e-3)
    assert moved[2, :, 0] == pytest.approx([0.24, 0.24], abs=4e-3)
    assert moved[1:, :, 1] - HERS[:, 1] == pytest.approx(np.array([[0.1, 0.1], [-0.1, -0.1]]), abs=1e-3)


def test_whose_irises_lie_at_a_corner_already_look_no_further_that_way(face: MakeFace) -> None:
    at_the_corner = np.array([[0.9, 0.0], [0.9, 0.0]], np.float32)
    moved = retarget_gaze(at_the_corner, looking((0.5, 0.0), (0.7, 0.0), (0.4, 0.0)), np.stack([face()] * 3), 25.0, RAW)
    assert moved[1, :, 0] == pytest.approx([0.92, 0.92], abs=1e-3)
    assert moved[2, :, 0] == pytest.approx([0.8, 0.8], abs=0.01)


def test_blinks_and_frames_without_irises_are_bridged(face: MakeFace) -> None:
    shut = CANONICAL_LANDMARKS.copy()
    for eye in (RIGHT_EYE, LEFT_EYE):
        shut[eye, 1] = shut[eye][[0, 3], 1].mean()
    landmarks = np.stack([face(), face(head=shut), face(), face(), face()])
    driver = looking((0.5, 0.0), (0.9, 0.4), (0.54, 0.0), (np.nan, np.nan), (0.5, 0.0))
    moved = retarget_gaze(HERS, driver, landmarks, 25.0, RAW)[:, :, 0] - HERS[:, 0]
    assert moved == pytest.approx(np.array([[0.0] * 2, [0.02] * 2, [0.04] * 2, [0.02] * 2, [0.0] * 2]), abs=2e-3)


def test_a_driver_whose_irises_are_never_seen_moves_none(face: MakeFace) -> None:
    unknown = np.full((3, 2, 2), np.nan, np.float32)
    moved = retarget_gaze(HERS, unknown, np.stack([face()] * 3), 25.0, MotionOptions())
    assert moved.tolist() == [HERS.tolist()] * 3


def test_eyes_that_stay_on_the_camera_while_the_head_turns_do_so_in_the_portrait_too(face: MakeFace) -> None:
    """Most of the time the head is turned: how the eyes lie then is not how they rest."""
    frames = [(0.0, 0.5)] * 5 + [(15.0, 0.4)] * 15
    landmarks = np.stack([face(yaw=yaw) for yaw, _ in frames])
    moved = retarget_gaze(HERS, looking(*((across, 0.0) for _, across in frames)), landmarks, 25.0, RAW)
    assert moved[:5, :, 0] == pytest.approx(np.repeat(HERS[None, :, 0], 5, axis=0), abs=1e-6)
    assert moved[5:, 0, 0] == pytest.approx(0.55 - 0.09, abs=0.01)


def test_a_glance_in_the_neutral_frame_is_not_taken_for_rest(face: MakeFace) -> None:
    driver = looking((0.6, 0.0), *[(0.5, 0.0)] * 11)
    moved = retarget_gaze(HERS, driver, np.stack([face()] * 12), 25.0, RAW)
    assert moved[1:, :, 0] == pytest.approx(np.repeat(HERS[None, :, 0], 11, axis=0), abs=1e-6)
    assert moved[0, 0, 0] > 0.62


def test_trembling_is_smoothed_and_a_glance_goes_through(face: MakeFace) -> None:
    random, landmarks = np.random.default_rng(0), np.stack([face()] * 40)
    across = 0.5 + random.normal(0, 0.01, 40)
    across[30:] += 0.1
    driver = looking(*((x, 0.0) for x in across))
    raw, smooth = (
        retarget_gaze(HERS, driver, landmarks, 25.0, MotionOptions(smoothing=smoothing, neutral_frame=0))[:, 0, 0]
        for smoothing in (0.0, 0.5)
    )
    assert np.std(np.diff(smooth[:30])) < 0.6 * np.std(np.diff(raw[:30]))
    assert smooth[32] - smooth[28] > 0.05
