from fractions import Fraction

import numpy as np
import pytest

from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import action_index, vector
from training.animation.driver_track import DriverTrack
from training.animation.motion.face_motion import FaceMotion, to_track
from training.animation.motion.fit_actions import fit_actions

GIVEN = (
    {},
    {"jawOpen": 0.4},
    {"mouthSmile": 0.8},
    {"eyeBlinkLeft": 0.8},
    {"browInnerUp": 0.7, "browOuterUp": 0.7},
    {"mouthPucker": 0.8},
    {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5},
)


def made() -> DriverTrack:
    """A film of the actions `GIVEN`, one a frame, with turns."""
    angles = np.array([(3.0 * frame, -2.0 * frame, frame) for frame in range(len(GIVEN))])
    motion = FaceMotion(np.stack([vector(weights) for weights in GIVEN]), angles)
    times = FrameTimes(np.arange(len(GIVEN)) / 25, Fraction(25), constant=True)
    return to_track(motion, times, "mediapipe", exact=True)


def test_actions_and_angles_are_found_again() -> None:
    """Actions that move the same points share a movement among them."""
    motion = fit_actions(made())
    assert np.abs(motion.actions[0]).max() < 1e-3
    for frame, weights in enumerate(GIVEN):
        given = vector(weights)
        on = given > 0
        assert (motion.actions[frame, on] > 0.5 * given[on]).all(), weights
        assert (motion.actions[frame, on] < 1.4 * given[on]).all(), weights
        assert motion.angles[frame] == pytest.approx([3 * frame, -2 * frame, frame], abs=1.5)
    assert motion.actions[3, action_index("eyeBlinkRight")] < 0.05


def test_what_is_found_drives_like_what_was_given() -> None:
    """The landmarks of the actions that are found, against those that they were found for: under 2 mm."""
    track = made()
    again = to_track(fit_actions(track), track.times, "mediapipe", exact=True)
    assert np.abs(again.landmarks - track.landmarks).mean() / 40 < 0.05
    assert np.abs(again.landmarks - track.landmarks).max() / 40 < 0.4


def test_the_neutral_frame_can_be_chosen() -> None:
    motion = fit_actions(made(), neutral_frame=2)
    assert np.abs(motion.actions[2]).max() < 1e-6
    assert motion.angles[2] == pytest.approx([0, 0, 0])
    with pytest.raises(ValueError, match="neutral_frame 7 is not one of the driver's 7 frames"):
        fit_actions(made(), neutral_frame=7)
