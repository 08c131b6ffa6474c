from collections.abc import Callable

import numpy as np
import pytest

from training.animation.smoothing import fill_gaps, one_euro

MakeFace = Callable[..., np.ndarray]


@pytest.fixture
def driver(face: MakeFace) -> np.ndarray:
    return np.stack([face(60, 50, 60), face(62, 53, 61, yaw=15, pitch=5), face(58, 49, 60, roll=-12)])


def test_one_euro_passes_constants_and_strength_zero(driver: np.ndarray) -> None:
    assert one_euro(driver, 25.0, 0.0) is driver
    constant = np.repeat(driver[:1], 10, axis=0)
    assert np.array_equal(one_euro(constant, 25.0, 1.0), constant)
    assert np.array_equal(one_euro(driver[:1], 25.0, 1.0), driver[:1])


def test_one_euro_calms_jitter_and_lets_a_blink_through(face: MakeFace) -> None:
    random = np.random.default_rng(0)
    still = np.repeat(face(300, 200, 200)[None], 60, axis=0)
    jitter = (still + random.normal(0, 0.5, still.shape)).astype(np.float32)
    calm = one_euro(jitter, 25.0, 0.5)
    assert np.std(np.diff(calm, axis=0)) < 0.6 * np.std(np.diff(jitter, axis=0))
    step = np.concatenate([still[:5], still[:5] + 60])
    assert np.abs(one_euro(step, 25.0, 0.5)[6] - step[6]).max() < 20
    harder = one_euro(jitter, 25.0, 1.0)
    assert np.std(np.diff(harder, axis=0)) < np.std(np.diff(calm, axis=0))


def test_gaps_are_filled_by_straight_lines() -> None:
    landmarks = np.zeros((6, 68, 2), np.float32)
    landmarks[1], landmarks[4] = 10.0, 40.0
    landmarks[2] = 999.0  # what a lost frame holds means nothing
    filled = fill_gaps(landmarks, np.array([False, True, False, False, True, False]))
    assert filled[:, 5, 1].tolist() == [10, 10, 20, 30, 40, 40]
    assert filled.dtype == np.float32
    with pytest.raises(ValueError, match="no face found in any frame"):
        fill_gaps(landmarks, np.zeros(6, bool))
