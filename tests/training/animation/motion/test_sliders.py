import math

import numpy as np
import pytest

from pipelines.synthetic.head.arkit_actions import ACTIONS
from training.animation.motion.sliders import SLIDER_RANGES, Sliders, to_motion


def actions_of(**values: float) -> dict[str, float]:
    """The actions that are not 0."""
    (row,) = to_motion([Sliders(**{name: float(value) for name, value in values.items()})]).actions
    return {name: round(float(weight), 3) for name, weight in zip(ACTIONS, row, strict=True) if weight}


@pytest.mark.parametrize(
    ("values", "actions"),
    [
        ({}, {}),
        ({"yaw": 12, "pitch": -5, "roll": 3}, {}),
        ({"blink": 0.5}, {"eyeBlinkLeft": 0.425, "eyeBlinkRight": 0.425}),
        ({"blink": -0.5}, {"eyeWideLeft": 0.5, "eyeWideRight": 0.5}),
        ({"aaa": 1}, {"jawOpen": 0.5}),
        ({"pupil_x": -0.5}, {"eyeLookInLeft": 0.5, "eyeLookOutRight": 0.5}),
        ({"smile": -0.5}, {"mouthFrownLeft": 0.5, "mouthFrownRight": 0.5}),
    ],
)
def test_actions_of_sliders(values: dict[str, float], actions: dict[str, float]) -> None:
    assert actions_of(**values) == actions


def test_a_wink_and_a_blink_shut_an_eye_once() -> None:
    both = actions_of(wink=1, blink=1)
    assert both["eyeBlinkLeft"] == both["eyeBlinkRight"] == 0.85
    assert "eyeBlinkRight" not in actions_of(wink=1)
    assert "eyeBlinkLeft" not in actions_of(wink=-1)


def test_angles_of_sliders() -> None:
    assert np.array_equal(to_motion([Sliders(yaw=12.0, pitch=-5.0, roll=3.0)]).angles, [[12, -5, 3]])


@pytest.mark.parametrize("name", SLIDER_RANGES)
def test_values_outside_a_range_are_refused(name: str) -> None:
    lowest, highest = SLIDER_RANGES[name]
    Sliders(**{name: lowest})
    Sliders(**{name: highest})
    for wrong in (lowest - 0.1, highest + 0.1, math.nan):
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[{lowest:g}, {highest:g}\], got"):
            Sliders(**{name: wrong})
