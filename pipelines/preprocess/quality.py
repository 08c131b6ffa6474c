"""Quality checks of clips, the reasons for which they are rejected, and the sharpness and brightness of crops."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.dataset.rows import Measures
from pipelines.faces.face import Face, face_size


class RejectReason(StrEnum):
    """The code of a clip without a row. `retryable` ones may succeed with the same config."""

    UNREADABLE = "unreadable"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    TOO_SMALL = "too_small"
    BLURRED = "blurred"
    TOO_FEW_FRAMES = "too_few_frames"
    CUT_INSIDE = "cut_inside"
    DUPLICATE = "duplicate"
    MISSING = "missing"
    STORAGE = "storage"
    CRASHED = "decoder_crashed"
    TIMED_OUT = "timed_out"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether the reason lies outside the clip."""
        return self in (
            RejectReason.MISSING,
            RejectReason.STORAGE,
            RejectReason.CRASHED,
            RejectReason.TIMED_OUT,
            RejectReason.INTERNAL,
        )

    @property
    def status(self) -> str:
        """Rejected: the clip itself is unsuitable. Failed: it could not be processed."""
        return "failed" if self.retryable else "rejected"


_NOTHING = Measures()


class ClipRejected(ValueError):
    """A clip gives no row: the reason, the stage that found it, a message, and what was measured before."""

    def __init__(self, reason: RejectReason, stage: str, message: str, measures: Measures = _NOTHING) -> None:
        super().__init__(message)
        self.reason = reason
        self.stage = stage
        self.measures = measures


@dataclass(frozen=True)
class QualityRule:
    """Thresholds below which a clip is rejected."""

    min_frames: int = 9
    """Least number of usable frames per clip: K + 1 for K shots and a target."""
    min_face: float = 32.0
    """Median size of the face (larger side of the landmarks' box) in source pixels."""
    min_sharpness: float = 3.0
    """Median variance of the Laplacian over the face, in the crop."""

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise ValueError(f"min_frames must be at least 1, got {self.min_frames}")


def check_faces(faces: list[Face], rule: QualityRule) -> None:
    """Raise ClipRejected when the tracked face is in too few frames or too small."""
    if not faces:
        raise ClipRejected(RejectReason.NO_FACE, "detect", "no face in any of the frames looked at")
    if len(faces) < rule.min_frames:
        raise ClipRejected(
            RejectReason.TOO_FEW_FRAMES, "detect", f"the face is in {len(faces)} frames, {rule.min_frames} are needed"
        )
    size = float(np.median([face_size(face) for face in faces]))
    if size < rule.min_face:
        raise ClipRejected(
            RejectReason.TOO_SMALL, "detect", f"the face is {size:.0f} px, {rule.min_face:.0f} px are needed"
        )


def check_sharpness(values: list[float], rule: QualityRule) -> None:
    """Raise ClipRejected when the median frame is blurred."""
    median = float(np.median(values))
    if median < rule.min_sharpness:
        raise ClipRejected(RejectReason.BLURRED, "crop", f"sharpness {median:.1f}, {rule.min_sharpness:.1f} is needed")


def sharpness(crop: UInt8[np.ndarray, "size size 3"], landmarks: Float[np.ndarray, "68 2"]) -> float:
    """Return the variance of the Laplacian of the grey values inside the landmarks' box; the background is left out."""
    return float(cv2.Laplacian(_face_grey(crop, landmarks), cv2.CV_32F).var())


def brightness(crop: UInt8[np.ndarray, "size size 3"], landmarks: Float[np.ndarray, "68 2"]) -> float:
    """Return the mean grey value inside the landmarks' box, 0-255."""
    return float(_face_grey(crop, landmarks).mean())


def _face_grey(
    crop: UInt8[np.ndarray, "size size 3"], landmarks: Float[np.ndarray, "68 2"]
) -> UInt8[np.ndarray, "height width"]:
    size = crop.shape[0]
    low = np.clip(np.floor(landmarks.min(axis=0)).astype(int), 0, size - 2)
    high = np.clip(np.ceil(landmarks.max(axis=0)).astype(int), low + 1, size - 1)
    window = np.ascontiguousarray(crop[low[1] : high[1] + 1, low[0] : high[0] + 1])
    return np.asarray(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
