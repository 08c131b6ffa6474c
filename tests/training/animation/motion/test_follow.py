from fractions import Fraction

import numpy as np
import pytest
from jaxtyping import Float

from pipelines.faces.head_pose import INNER_LIP
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import ACTIONS, action_index
from training.animation.motion.face_motion import FaceMotion, to_track
from training.animation.motion.follow import retargeted
from training.animation.retarget import MotionOptions


def opened(jaw: float, *, adds: bool) -> tuple[Float[np.ndarray, "68 2"], Float[np.ndarray, "68 2"]]:
    """A face whose jaw is open by `jaw`, and what it becomes when a driver opens its jaw by as much."""
    actions = np.zeros((1, len(ACTIONS)), np.float32)
    actions[0, action_index("jawOpen")] = jaw
    motion = FaceMotion(actions, np.zeros((1, 3), np.float32))
    times = FrameTimes(np.zeros(1), Fraction(25), constant=True)
    track = to_track(motion, times, "mediapipe", exact=True, adds=adds)
    (moved,), _ = retargeted(track.landmarks[0], None, track, MotionOptions())
    return track.landmarks[0], moved


def opening(landmarks: Float[np.ndarray, "68 2"]) -> float:
    top, bottom = landmarks[INNER_LIP][[2, 6]]
    return float(bottom[1] - top[1])


def test_speech_opens_an_open_mouth_no_further_and_sliders_do() -> None:
    before, spoken = opened(0.5, adds=False)
    assert opening(spoken) == pytest.approx(opening(before), rel=0.06)
    _, slid = opened(0.5, adds=True)
    assert opening(slid) > 1.7 * opening(before)


def test_a_shut_mouth_opens_as_far_either_way() -> None:
    spoken, slid = (opened(0.04, adds=adds)[1] for adds in (False, True))
    np.testing.assert_allclose(spoken, slid, atol=1e-4)
