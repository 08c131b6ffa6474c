"""Drivers whose faces a test places itself, frame by frame."""

from collections.abc import Callable, Sequence

import numpy as np

from pipelines.faces.face import Face, make_face
from pipelines.faces.head_pose import CANONICAL_LANDMARKS

MakeFace = Callable[..., np.ndarray]


class Follower:
    """A detector that knows where the driver's faces are: a list per frame of the clip."""

    name = "mediapipe"

    def __init__(self, frames: Sequence[Sequence[np.ndarray]], gaze: Sequence[float | None] | None = None) -> None:
        looks = [None if across is None else np.full((2, 2), (across, 0.0)) for across in gaze or [None] * len(frames)]
        pairs = zip(frames, looks, strict=True)
        self.frames = [[make_face(points, 1.0, look) for points in faces] for faces, look in pairs]

    def detect(self, image: np.ndarray) -> list[Face]:
        return self.frames.pop(0)


def moving(face: MakeFace, num_frames: int) -> list[list[np.ndarray]]:
    """A driver who turns and shuts the eyes; neutral in frame 0."""
    blink = CANONICAL_LANDMARKS.copy()
    blink[36:48, 1] = -2.6
    frames = []
    for number in range(num_frames):
        head = blink if number % 4 == 2 else CANONICAL_LANDMARKS
        frames.append([face(30, 48, 34, yaw=12 * np.sin(number / 3), head=head)])
    return frames
