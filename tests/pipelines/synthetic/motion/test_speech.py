import numpy as np
import pytest
from scipy.signal import find_peaks

from pipelines.synthetic.head.arkit_actions import action_index
from pipelines.synthetic.motion.speech import PAUSE_S, SYLLABLES_PER_S, speech

JAW = action_index("jawOpen")


@pytest.mark.parametrize("seed", range(6))
def test_jaw_opens_three_to_seven_times_a_second_while_a_phrase_lasts(seed: int) -> None:
    times = np.arange(6000) / 100
    jaw = speech(np.random.default_rng(seed), times)[0][:, JAW]
    peaks, _ = find_peaks(jaw, prominence=0.02)
    median = float(np.median(np.diff(times[peaks])))  # from one syllable to the next: pauses are few
    assert len(peaks) > 100
    assert SYLLABLES_PER_S[0] <= 1 / median <= SYLLABLES_PER_S[1]


def test_pauses_part_the_phrases_and_lips_rest_in_them() -> None:
    times = np.arange(12_000) / 100
    actions, _ = speech(np.random.default_rng(3), times)
    still = (actions < 0.01).all(axis=1)
    runs = np.split(still, np.flatnonzero(np.diff(still)) + 1)
    pauses = [len(run) / 100 for run in runs if run[0] and len(run) > 5]
    assert 20 < len(pauses) < 110  # a phrase and its pause last 1 to 4.2 s
    assert 0.1 < np.mean(pauses) < PAUSE_S[1]


def test_mouth_forms_are_many_and_nothing_but_the_mouth_moves() -> None:
    actions, accents = speech(np.random.default_rng(0), np.arange(3000) / 25)
    moved = actions.max(axis=0) > 0.05
    for name in ("mouthFunnel", "mouthPucker", "mouthStretchLeft", "mouthLowerDownRight", "mouthUpperUpLeft"):
        assert moved[action_index(name)]
    assert not moved[: action_index("jawOpen")].any()
    assert 0 <= actions.min() <= actions.max() <= 1
    assert len(accents) > 50
    assert (np.diff(accents) > 0).all()


def test_both_sides_speak_alike() -> None:
    actions, _ = speech(np.random.default_rng(5), np.arange(100) / 25)
    np.testing.assert_array_equal(
        actions[:, action_index("mouthStretchLeft")], actions[:, action_index("mouthStretchRight")]
    )
