"""Find the boxes of faces, many frames in one call: YuNet through OpenCV, or S3FD and BlazeFace of face-alignment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.landmarks import Box, box_files

WORKING_SIDE = 480  # longer side of what the networks see: 7 ms a frame with YuNet; faces down to 2 % of it are found
_YUNET_SCORE = 0.6
_YUNET_OVERLAP = 0.3
_YUNET_CANDIDATES = 50  # boxes before those that overlap are joined


class BoxFinder(Protocol):
    """Finds faces' boxes. FAN is shown (width + height) * 200 / `reference_scale` pixels of the picture around one.

    `pictures_at_once` is how many pictures of one size `find` takes in one forward.
    """

    reference_scale: float
    pictures_at_once: int

    def find(self, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> list[list[Box]]:
        """Per picture: the boxes, largest first."""
        ...


def create_box_finder(boxes: str, *, device: str, max_faces: int, weights: str | None) -> BoxFinder:
    """The finder `boxes` of `landmarks.BOXES`. Raises ValueError when its weights cannot be had."""
    files = box_files(boxes, weights)
    if boxes == "yunet":
        return YuNet(files[0], max_faces=max_faces)
    if boxes == "s3fd":
        from face_alignment.detection.sfd import FaceDetector as S3fd

        return LibraryBoxes(S3fd(device=device, path_to_detector=str(files[0])), max_faces=max_faces)
    from face_alignment.detection.blazeface import FaceDetector as BlazeFace

    kwargs = {"back_model": True, "path_to_detector": str(files[0]), "path_to_anchor": str(files[1])}
    return LibraryBoxes(BlazeFace(device=device, **kwargs), max_faces=max_faces)


class YuNet:
    """OpenCV's FaceDetectorYN. It takes one picture at a time; there is nothing to gain from a batch."""

    reference_scale = 165.0  # as the library has it for this detector
    pictures_at_once = 1

    def __init__(self, weights: Path, max_faces: int) -> None:
        self._max_faces = max_faces
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of a target that nobody chose
        self._network = cv2.FaceDetectorYN.create(
            str(weights), "", (0, 0), _YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES
        )
        cv2.utils.logging.setLogLevel(level)

    def find(self, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> list[list[Box]]:
        """Per picture: the boxes, largest first."""
        return [self._find(image) for image in images]

    def _find(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Box]:
        small = shrink(image)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, faces = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        found = [] if faces is None else [(x, y, x + wide, y + high) for x, y, wide, high in faces[:, :4]]
        return _largest(found, image, small, self._max_faces)


class LibraryBoxes:
    """A detector of the face-alignment library, on batches of frames of one size."""

    pictures_at_once = 16

    def __init__(self, detector: Any, max_faces: int) -> None:
        self._detector = detector
        self._max_faces = max_faces
        self.reference_scale = float(detector.reference_scale)

    def find(self, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> list[list[Box]]:
        """Per picture: the boxes, largest first."""
        import torch

        found: list[list[Box]] = []
        for _, group in groupby(images, key=lambda image: image.shape):
            same = [*group]
            for begin in range(0, len(same), self.pictures_at_once):
                batch = same[begin : begin + self.pictures_at_once]
                small = [shrink(image) for image in batch]
                pixels = torch.from_numpy(np.stack(small).transpose(0, 3, 1, 2).copy())
                boxes = self._detector.detect_from_batch(pixels)
                found += [_largest(b, i, s, self._max_faces) for b, i, s in zip(boxes, batch, small, strict=True)]
        return found


def shrink(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "small_height small_width 3"]:
    """The picture with its longer side at most `WORKING_SIDE`; never enlarged."""
    height, width = image.shape[:2]
    factor = WORKING_SIDE / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _largest(
    found: Any,  # rows that begin with x0, y0, x1, y1: a list of arrays, an array, or an empty one without columns
    image: UInt8[np.ndarray, "height width 3"],
    small: UInt8[np.ndarray, "small_height small_width 3"],
    max_faces: int,
) -> list[Box]:
    """Boxes in pixels of `image` from those in `small`, without what has no area or lies outside."""
    height, width = image.shape[:2]
    scale_x, scale_y = width / small.shape[1], height / small.shape[0]
    boxes = [
        (float(row[0]) * scale_x, float(row[1]) * scale_y, float(row[2]) * scale_x, float(row[3]) * scale_y)
        for row in found
    ]
    inside = [b for b in boxes if min(b[2], width) - max(b[0], 0) >= 1 and min(b[3], height) - max(b[1], 0) >= 1]
    return sorted(inside, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))[:max_faces]
