import numpy as np
import pytest
from scipy.signal import find_peaks

from pipelines.synthetic.head.arkit_actions import LIDS, MOUTH, action_index, actions_to_gaze
from pipelines.synthetic.motion.procedural import (
    BLINK_DOWN_S,
    BLINK_EVERY_S,
    BLINK_UP_S,
    EXPRESSIONS,
    EYE_DEGREES,
    blinks,
    gaze,
    head_motion,
    mood_expression,
    with_expressions,
)

FINE = np.arange(0, 240, 0.005)


def test_blinks_come_every_two_to_six_seconds_quick_down_and_slower_up() -> None:
    lid = blinks(np.random.default_rng(0), FINE)[:, LIDS[0]]
    peaks, _ = find_peaks(lid, height=0.5, distance=100)
    gaps = np.diff(FINE[peaks])
    assert len(peaks) > 35
    assert gaps.min() > BLINK_EVERY_S[0] - 0.3
    assert gaps.max() < BLINK_EVERY_S[1] + 0.3
    for peak in peaks[1:-1]:
        shape = lid[peak - 100 : peak + 100]
        shut = np.flatnonzero(shape >= shape.max() - 1e-9)
        down = (100 - np.flatnonzero(shape[:100] < 1e-9)[-1] - (100 - shut[0])) * 0.005
        up = (100 + np.flatnonzero(shape[100:] < 1e-9)[0] - shut[-1]) * 0.005
        assert BLINK_DOWN_S[0] - 0.011 <= down <= BLINK_DOWN_S[1] + 0.011
        assert BLINK_UP_S[0] - 0.011 <= up <= BLINK_UP_S[1] + 0.011
        assert shape.max() > 0.75


def test_nothing_but_the_lids_moves_in_a_blink() -> None:
    actions = blinks(np.random.default_rng(1), FINE)
    assert set(np.flatnonzero(actions.any(axis=0))) == set(LIDS)


def test_eyes_jump_and_rest_and_turn_together() -> None:
    times = np.arange(0, 120, 0.01)
    actions = gaze(np.random.default_rng(0), times, np.zeros((len(times), 3)))
    looks = actions_to_gaze(actions)
    np.testing.assert_array_equal(
        actions[:, action_index("eyeLookOutLeft")], actions[:, action_index("eyeLookInRight")]
    )
    moving = (np.abs(np.diff(looks, axis=0)) > 1e-6).any(axis=1)
    assert 0.01 < moving.mean() < 0.15  # saccades are short, fixations long
    saccades = np.flatnonzero(np.diff(moving.astype(int)) == 1)
    assert 0.5 < len(saccades) / 120 < 3


def test_a_look_at_the_camera_stays_there_while_the_head_turns() -> None:
    times = np.arange(0, 60, 0.04)
    yaw = 15 * np.sin(times)
    angles = np.stack([yaw, np.zeros_like(yaw), np.zeros_like(yaw)], axis=-1)
    look = actions_to_gaze(gaze(np.random.default_rng(2), times, angles))[:, 0] * EYE_DEGREES[0]
    at_camera = np.abs(look + yaw) < 3
    assert at_camera.mean() > 0.4
    assert np.corrcoef(look[at_camera], yaw[at_camera])[0, 1] < -0.9


def test_head_nods_down_with_accents() -> None:
    times = np.arange(0, 100, 0.04)
    accents = [float(a) for a in np.arange(2, 98, 2)]
    without, _ = head_motion(np.random.default_rng(4), times, [])
    angles, travel = head_motion(np.random.default_rng(4), times, accents)
    nods = (angles - without)[:, 1]
    assert nods.min() < -2
    assert nods.max() <= 0
    assert len(find_peaks(-nods, height=1.0)[0]) > 15
    np.testing.assert_array_equal(angles[:, [0, 2]], without[:, [0, 2]])
    assert travel.shape == (len(times), 3)


def test_who_leans_to_a_side_tilts_to_it_and_some_come_nearer() -> None:
    times = np.arange(0, 100, 0.04)
    moves = [head_motion(np.random.default_rng(seed), times, []) for seed in range(8)]
    angles, travel = np.stack([angles for angles, _ in moves]), np.stack([travel for _, travel in moves])
    assert np.corrcoef(travel[..., 0].ravel(), angles[..., 2].ravel())[0, 1] > 0.2
    assert 0.03 < travel[..., 2].std() < 0.15  # a head is seen 3 to 15 % larger or smaller


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_made_of_actions(name: str) -> None:
    assert all(0 < weight <= 1 for weight in EXPRESSIONS[name].values())


@pytest.mark.slow
def test_strong_expressions_come_now_and_then_and_speech_goes_small_under_a_smile() -> None:
    times = np.arange(0, 600, 0.04)
    spoken = np.zeros((len(times), 52))
    spoken[:, action_index("mouthFunnel")] = 0.4
    actions = with_expressions(np.random.default_rng(0), times, spoken)
    upper = np.delete(actions, MOUTH, axis=1)
    busy = (upper > 0.2).any(axis=1)
    assert 0.05 < busy.mean() < 0.5
    smiling = actions[:, action_index("mouthSmileLeft")] > 0.6
    assert smiling.any()
    assert actions[smiling, action_index("mouthFunnel")].max() < 0.3
    assert actions.max() <= 1


@pytest.mark.slow
def test_one_sided_expressions_come_on_both_sides() -> None:
    times = np.arange(0, 800, 0.04)
    actions = with_expressions(np.random.default_rng(1), times, np.zeros((len(times), 52)))
    left, right = actions[:, LIDS[0]] > 0.6, actions[:, LIDS[1]] > 0.6
    assert (left & ~right).any()
    assert (right & ~left).any()


def test_idle_face_holds_a_mood_and_lifts_brows_with_accents() -> None:
    times = np.arange(0, 100, 0.04)
    accents = [float(a) for a in np.arange(1, 99)]
    raised = [
        mood_expression(np.random.default_rng(seed), times, accents)[:, action_index("browOuterUpLeft")]
        for seed in range(5)
    ]
    assert all(len(find_peaks(curve, height=0.3)[0]) > 10 for curve in raised)
    assert all(mood_expression(np.random.default_rng(seed), times[:1], []).shape == (1, 52) for seed in range(5))
