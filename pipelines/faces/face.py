"""A detected face, and the protocol of what detects it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.media import video

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one picture: landmarks in its pixels (pixel centres at integers), their bounding box, a score.

    `score` lies in [0, 1]. MediaPipe and dlib report none for a face they return: such faces have 1. `gaze` is where
    the irises lie in the eyes (`pipelines.faces.head_pose.gaze`); MediaPipe alone sees them.
    """

    landmarks: Float[np.ndarray, "68 2"]
    score: float
    box: Box
    gaze: Float[np.ndarray, "2 2"] | None = None


def make_face(landmarks: Float[np.ndarray, "68 2"], score: float, gaze: Float[np.ndarray, "2 2"] | None = None) -> Face:
    """A Face with the bounding box of its landmarks."""
    points = np.ascontiguousarray(landmarks, dtype=np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(points, float(score), (float(low[0]), float(low[1]), float(high[0]), float(high[1])), gaze)


def face_size(face: Face) -> float:
    """The larger side of the landmarks' box, in pixels."""
    return max(face.box[2] - face.box[0], face.box[3] - face.box[1])


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """The faces by `face_size`, falling; equal ones as they came."""
    return sorted(faces, key=face_size, reverse=True)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The frames of one clip that a detector looks at.

    `frames` come in the clip's order and are iterated more than once: frames too large to hold are decoded again.
    `hints` holds the face's box where it is known beforehand, by the frame's index; {} when nothing is known.
    """

    frames: Iterable[video.Frame]
    hints: Mapping[int, Box]


class LandmarkDetector(Protocol):
    """Finds faces and their 68 landmarks. `name` is recorded in data sets and checkpoints.

    `clips_at_once` is how many clips `follow` wants in one call. What it finds in a clip may depend on the clips
    beside it, by rounding, but never on calls before.
    """

    name: str
    clips_at_once: int

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first; none is an empty list."""
        ...

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Per clip, per frame: the faces, largest first. With hints, the face that they show.

        Hints that show no face in most frames, or lie outside the picture, are passed over: published boxes may
        belong to another cut of the video.
        """
        ...
