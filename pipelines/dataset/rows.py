"""The rows of a shard: kept clips, and rejected ones with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Float64

from pipelines.dataset.schema import ClipKey


@dataclass(frozen=True)
class Measures:
    """What was measured before a clip was rejected: columns of the rejects, None if not reached."""

    frames_seen: int | None = None
    frames_with_face: int | None = None
    face_size: float | None = None
    """Median over the frames with a face, in pixels of the source video."""
    sharpness: float | None = None
    """Median over the crops."""
    thumbnail: bytes | None = None
    """JPEG of one frame."""


@dataclass(frozen=True)
class Reject:
    """One clip without a row: why it was rejected or failed."""

    key: ClipKey
    source: str
    stage: str
    status: str
    code: str
    message: str
    retryable: bool
    attempts: int = 1
    measures: Measures = field(default_factory=Measures)


@dataclass(frozen=True, eq=False)
class ClipRow:
    """One clip of a shard. Per-frame fields have one entry per kept frame, in the clip's order."""

    key: ClipKey
    source: str
    source_sha256: str
    fps: Fraction
    width: int
    height: int
    start_us: int
    """Start of the clip in its source video in microseconds; 0 unless it is an excerpt defined by published boxes."""
    end_us: int
    """`start_us` plus the clip's duration by its number of frames and frame rate."""
    frame_index: tuple[int, ...]
    frame_pts_us: tuple[int, ...]
    frame_jpeg: tuple[bytes, ...]
    landmarks: Float[np.ndarray, "frames 68 2"]
    landmark_score: tuple[float, ...]
    bbox: Float[np.ndarray, "frames 4"]
    crop_affine: Float64[np.ndarray, "2 3"]
    yaw: tuple[float, ...]
    pitch: tuple[float, ...]
    roll: tuple[float, ...]
    sharpness: tuple[float, ...]
    brightness: tuple[float, ...]
    mouth_openness: tuple[float, ...]
    eye_openness: tuple[float, ...]
    audio: bytes | None
    audio_format: str | None
