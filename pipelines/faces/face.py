"""A detected face, and the protocol of landmark detectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.media import video

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of an image: landmarks in pixels (pixel centres at integers), their bounding box, a score.

    `score` lies in [0, 1]; it is 1 for MediaPipe and dlib, which report none. `gaze` is the position of the irises in
    the eyes (`pipelines.faces.head_pose.gaze`); only MediaPipe detects them.
    """

    landmarks: Float[np.ndarray, "68 2"]
    score: float
    box: Box
    gaze: Float[np.ndarray, "2 2"] | None = None


def make_face(landmarks: Float[np.ndarray, "68 2"], score: float, gaze: Float[np.ndarray, "2 2"] | None = None) -> Face:
    """Return a Face with the bounding box of its landmarks."""
    points = np.ascontiguousarray(landmarks, dtype=np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(points, float(score), (float(low[0]), float(low[1]), float(high[0]), float(high[1])), gaze)


def face_size(face: Face) -> float:
    """Return the larger side of the landmarks' box, in pixels."""
    return max(face.box[2] - face.box[0], face.box[3] - face.box[1])


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Return the faces by decreasing `face_size`; the sort is stable."""
    return sorted(faces, key=face_size, reverse=True)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidate frames of one clip, for a detector.

    `frames` are in the clip's order and are iterated more than once: frames too large to hold are decoded again.
    `hints` maps frame indices to the face's box where it is known beforehand; {} when none is known.
    """

    frames: Iterable[video.Frame]
    hints: Mapping[int, Box]


class LandmarkDetector(Protocol):
    """Detects faces and their 68 landmarks. `name` is recorded in data sets and checkpoints.

    `clips_at_once` is the best number of clips per call of `follow`. Results of a clip may depend on the other clips of
    the call by rounding, but never on earlier calls.
    """

    name: str
    clips_at_once: int

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first."""
        ...

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Return per clip and frame the faces, largest first; with hints, the hinted face.

        Hints are ignored if most of them show no face or lie outside the image: published boxes may belong to another
        cut of the video.
        """
        ...
