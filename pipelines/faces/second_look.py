"""A second look for faces that are small in their picture, where a detector finds none in the whole picture.

MediaPipe sees a picture at 128 x 128 pixels and misses faces below a ninth of its longer side. Where it finds no face,
YuNet looks at the picture at a scale at which the smallest wanted face has 16 pixels, and the detector looks into a
window around each of YuNet's boxes: a box counts only if the detector finds a face with landmarks there.

The frames of a clip are searched in order. Where the last frames had a face, the windows around it come first, and
YuNet looks when a face is lost and at every eighth frame. Where YuNet found nothing, it looks again after four frames
and then at every eighth. Figures: docs/explanation/landmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from pipelines import assets
from pipelines.cli import warn
from pipelines.faces.boxes import face_at, follow_hints, overlap
from pipelines.faces.face import Box, Candidates, Face, LandmarkDetector, largest_first
from pipelines.faces.face_detectors import YuNet, closer_side

Detect = Callable[[UInt8[np.ndarray, "height width 3"]], list[Face]]

_FIRST_GAP, _GAP = 4, 8  # frames from one look of YuNet to the next: after the first one in vain, and after others
_SAME_FACE = 0.5  # overlap (IoU) of two boxes of one face


class PictureDetector(Protocol):
    """Detects the faces of one picture and their 68 landmarks. `name` is recorded in data sets and checkpoints.

    `least_share` is the size of the smallest face that it finds, as a share of the picture's longer side.
    """

    name: str
    least_share: float

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first."""
        ...


class FrameByFrame:
    """A landmark detector that looks at one picture at a time, with or without a second look."""

    clips_at_once = 1

    def __init__(self, first: PictureDetector, max_faces: int, min_face: float | None) -> None:
        """`min_face` is the size in pixels of the smallest face that the second look searches; None: no second look."""
        self.name = first.name
        self.first = first
        self._max_faces = max_faces
        self._min_face = min_face
        self._yunet: YuNet | None = None

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first. A single picture gets a third look, at twice the scale."""
        found = self.first.detect(image)
        if found or not self.may_miss(image):
            return found
        return self.search(image) or self.search(image, closer=2.0)

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Return per clip and frame the faces, largest first; with hints, the hinted face."""
        return [self._follow(clip) for clip in clips]

    def _follow(self, clip: Candidates) -> list[list[Face]]:
        hinted = follow_hints(clip, self.first.detect) if clip.hints else None
        if hinted is not None:
            return hinted
        look = detect_in_order(self)
        return [look(frame.image) for frame in clip.frames]

    def may_miss(self, image: UInt8[np.ndarray, "height width 3"]) -> bool:
        """Whether the picture is so large that the first look may miss a face of `min_face` pixels."""
        return self._min_face is not None and self.first.least_share * max(image.shape[:2]) > self._min_face

    def search(self, image: UInt8[np.ndarray, "height width 3"], closer: float = 1.0) -> list[Face]:
        """Return the faces in YuNet's boxes, largest first; `closer` enlarges the scale at which it looks."""
        if self._min_face is None:
            return []
        if self._yunet is None:
            try:
                self._yunet = YuNet(assets.fetch("yunet"), self._max_faces)
            except (assets.AssetError, assets.CacheError) as error:
                # `preprocess` fetches the file before it begins. Elsewhere a machine without it works as far as it can.
                warn(f"no second look for faces that are small in their picture: {error}")
                self._min_face = None
                return []
        boxes = self._yunet.find_with_points(image, closer_side(image, self._min_face / closer))
        return self.faces_at(image, [box for box, _ in boxes])

    def faces_at(self, image: UInt8[np.ndarray, "height width 3"], boxes: Sequence[Box]) -> list[Face]:
        """Return the face that the first detector finds in the window around each box, largest first, each once."""
        found: list[Face] = []
        for box in boxes:
            for face in face_at(image, box, self.first.detect):
                if all(overlap(face.box, other.box) < _SAME_FACE for other in found):
                    found.append(face)
        return largest_first(found)


def detect_in_order(detector: LandmarkDetector) -> Detect:
    """Return a function that detects the faces in one video's frames, called with them in order.

    It finds what `detector.detect` does, at less cost for faces that need the second look.
    """
    return _Search(detector) if isinstance(detector, FrameByFrame) else detector.detect


class _Search:
    """The faces of one clip, frame by frame: see the module."""

    def __init__(self, detector: FrameByFrame) -> None:
        self._detector = detector
        self._near: list[Box] = []
        """The faces of the last frame."""
        self._wait = 0
        """Frames to let pass before YuNet looks again."""
        self._in_vain = False
        """Whether YuNet's last look found nothing."""

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return the faces of the next frame, largest first."""
        found = self._detector.first.detect(image)
        if found or not self._detector.may_miss(image):
            self._wait, self._in_vain = _GAP - 1, False
        else:
            found = self._second_look(image)
        self._near = [face.box for face in found]
        return found

    def _second_look(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        found = self._detector.faces_at(image, self._near)
        lost = len(found) < len(self._near)
        if self._wait and not lost:
            self._wait -= 1
            return found
        found = self._detector.search(image) or found
        gap = _FIRST_GAP if not found and not self._in_vain else _GAP
        self._wait, self._in_vain = gap - 1, not found
        return found
