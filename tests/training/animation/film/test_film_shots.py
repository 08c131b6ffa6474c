from collections.abc import Callable
from fractions import Fraction

import numpy as np

from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.media.frame_times import FrameTimes
from training.animation.driver_track import DriverTrack
from training.animation.film.film_shots import NUM_SHOTS, choose_frames


def test_unlike_frames_are_chosen_from_the_neutral_one_on(face: Callable[..., np.ndarray]) -> None:
    speaks = CANONICAL_LANDMARKS.copy()
    speaks[[65, 66, 67, 55, 56, 57, 58, 59], 1] += 2
    frames = [face(100, yaw=6)] * 4 + [face(100, 900, 40)] + [face(100, head=speaks)] * 3 + [face(100, yaw=30)]
    found = np.ones(len(frames), bool)
    found[-1] = False
    gaze = np.full((len(frames), 2, 2), np.nan, np.float32)
    times = FrameTimes(np.arange(len(frames)) / 25, Fraction(25), constant=True)
    track = DriverTrack(np.stack(frames), gaze, found, times, "mediapipe")
    neutral, widest, turned, *others = choose_frames(track)
    assert (neutral, widest, turned) == (4, 5, 0)
    assert not others  # the other frames show nothing else, and the last one lacks the face
    many = DriverTrack(*(np.repeat(each, 9, axis=0) for each in (track.landmarks, gaze, found)), times, "mediapipe")
    assert len(choose_frames(many)) <= NUM_SHOTS
