"""Detect face boxes, many frames per call: YuNet through OpenCV, or S3FD and BlazeFace of face-alignment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.face import Box
from pipelines.faces.requirements import box_files

WORKING_SIDE = 480  # longer side of the networks' input: 7 ms per frame with YuNet; finds faces down to 3 % of it
LEAST_FACE = 16.0  # size of a face in the networks' input at which nine of ten are found
_MOST_SIDE = 1920  # longer side of the input of a closer look
_YUNET_SCORE = 0.6
_YUNET_OVERLAP = 0.3
_YUNET_CANDIDATES = 50  # boxes before non-maximum suppression


class FaceDetector(Protocol):
    """Detects face boxes. FAN's view of a box has a side of (width + height) * 200 / `reference_scale` pixels.

    `pictures_at_once` is the number of images of one size that `find` processes in one forward pass.
    """

    reference_scale: float
    pictures_at_once: int

    def find(self, images: Sequence[UInt8[np.ndarray, "_height _width 3"]]) -> list[list[Box]]:
        """Return per image the boxes, largest first."""
        ...


def create_face_detector(
    boxes: str, *, device: str, max_faces: int, weights: str | None, min_face: float | None = None
) -> FaceDetector:
    """Return a face detector by its name in `requirements.BOXES`. Raises ValueError when its weights are missing.

    Args:
        min_face: size in pixels of the smallest face to look for more closely where none is found at `WORKING_SIDE`;
            None: no second look. BlazeFace, whose input has a fixed size, takes none.
    """
    files = box_files(boxes, weights)
    if boxes == "yunet":
        return YuNet(files[0], max_faces=max_faces, min_face=min_face)
    if boxes == "s3fd":
        from face_alignment.detection.sfd import FaceDetector as S3fd

        s3fd = S3fd(device=device, path_to_detector=str(files[0]))
        return LibraryDetector(s3fd, max_faces=max_faces, min_face=min_face)
    from face_alignment.detection.blazeface import FaceDetector as BlazeFace

    kwargs = {"back_model": True, "path_to_detector": str(files[0]), "path_to_anchor": str(files[1])}
    return LibraryDetector(BlazeFace(device=device, **kwargs), max_faces=max_faces)


class YuNet:
    """OpenCV's FaceDetectorYN. It takes one image at a time, without loss of speed."""

    reference_scale = 165.0  # face-alignment's value for boxes like these
    pictures_at_once = 1

    def __init__(self, weights: Path, max_faces: int, min_face: float | None = None) -> None:
        self._max_faces = max_faces
        self._min_face = min_face
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # hide a warning about the default target
        self._network = cv2.FaceDetectorYN.create(
            str(weights), "", (0, 0), _YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES
        )
        cv2.utils.logging.setLogLevel(level)

    def find(self, images: Sequence[UInt8[np.ndarray, "_height _width 3"]]) -> list[list[Box]]:
        """Return per image the boxes, largest first."""
        return [[box for box, _ in self._find(image)] for image in images]

    def _find(self, image: UInt8[np.ndarray, "height width 3"]) -> list[tuple[Box, Float[np.ndarray, "5 2"]]]:
        found = self.find_with_points(image)
        side = 0 if found else _second_side(image, self._min_face)
        return self.find_with_points(image, side) if side else found

    def find_with_points(
        self, image: UInt8[np.ndarray, "height width 3"], side: int = WORKING_SIDE
    ) -> list[tuple[Box, Float[np.ndarray, "5 2"]]]:
        """Return boxes, largest first, each with five points: eyes, tip of the nose, corners of the mouth.

        Args:
            side: longer side of the network's input, in pixels; the image is never enlarged.
        """
        small = shrink(image, side)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if found is None:
            return []
        scale = (image.shape[1] / small.shape[1], image.shape[0] / small.shape[0])
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        points = {box: row[4:14].reshape(5, 2) * scale for box, row in zip(_scaled(boxes, scale), found, strict=True)}
        return [(box, points[box]) for box in _largest([*points], image, self._max_faces)]


class LibraryDetector:
    """A face detector of the face-alignment library, on batches of frames of one size."""

    pictures_at_once = 16

    def __init__(self, detector: Any, max_faces: int, min_face: float | None = None) -> None:
        self._detector = detector
        self._max_faces = max_faces
        self._min_face = min_face
        self.reference_scale = float(detector.reference_scale)

    def find(self, images: Sequence[UInt8[np.ndarray, "_height _width 3"]]) -> list[list[Box]]:
        """Return per image the boxes, largest first."""
        found = self._find(images, WORKING_SIDE)
        for number, image in enumerate(images):
            if not found[number] and (side := _second_side(image, self._min_face)):
                found[number] = self._find([image], side)[0]
        return found

    def _find(self, images: Sequence[UInt8[np.ndarray, "_height _width 3"]], side: int) -> list[list[Box]]:
        import torch

        found: list[list[Box]] = []
        for _, group in groupby(images, key=lambda image: image.shape):
            same = [*group]
            for begin in range(0, len(same), self.pictures_at_once):
                batch = same[begin : begin + self.pictures_at_once]
                small = [shrink(image, side) for image in batch]
                pixels = torch.from_numpy(np.stack(small).transpose(0, 3, 1, 2).copy())
                with exact_convolutions():
                    boxes = self._detector.detect_from_batch(pixels)
                scale = (batch[0].shape[1] / small[0].shape[1], batch[0].shape[0] / small[0].shape[0])
                found += [_largest(_scaled(b, scale), batch[0], self._max_faces) for b in boxes]
        return found


def exact_convolutions() -> Any:
    """Return a context in which a GPU convolves in single precision (not TF32) and deterministically."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def closer_side(image: UInt8[np.ndarray, "height width 3"], min_face: float) -> int:
    """Return the longer side, in pixels, of a network's input in which a face of `min_face` pixels has `LEAST_FACE`."""
    longer = int(max(image.shape[:2]))
    return min(longer, _MOST_SIDE, round(longer * LEAST_FACE / max(min_face, 1.0)))


def _second_side(image: UInt8[np.ndarray, "height width 3"], min_face: float | None) -> int:
    """Return the side of a second look; 0 where it would show no more than the first."""
    side = 0 if min_face is None else closer_side(image, min_face)
    return side if side > WORKING_SIDE else 0


def shrink(
    image: UInt8[np.ndarray, "height width 3"], side: int = WORKING_SIDE
) -> UInt8[np.ndarray, "small_height small_width 3"]:
    """Return the image with its longer side reduced to at most `side` pixels."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _scaled(rows: Any, scale: tuple[float, float]) -> list[Box]:
    """Return boxes of the full image; `rows` begin with x0, y0, x1, y1 of the shrunk one (an empty array has none)."""
    x, y = scale
    return [(float(row[0]) * x, float(row[1]) * y, float(row[2]) * x, float(row[3]) * y) for row in rows]


def _largest(boxes: Sequence[Box], image: UInt8[np.ndarray, "height width 3"], max_faces: int) -> list[Box]:
    """Return the largest boxes; those without area inside the image are dropped."""
    height, width = image.shape[:2]
    inside = [b for b in boxes if min(b[2], width) - max(b[0], 0) >= 1 and min(b[3], height) - max(b[1], 0) >= 1]
    return sorted(inside, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))[:max_faces]
