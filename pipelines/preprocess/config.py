"""The config that determines the content of a data set's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipelines.faces.crop import CropRule
from pipelines.preprocess.quality import QualityRule


@dataclass(frozen=True)
class ClipConfig:
    """Everything that determines a row's content. Part of the data set's config hash."""

    detector: str = "mediapipe"
    detector_boxes: str = "yunet"
    """Face detector of face-alignment; MediaPipe has its own, dlib uses yunet."""
    second_look: bool = True
    """Whether faces that are small in their picture are searched where the first look finds none."""
    frames_per_clip: int = 16
    size: int = 256
    oversample: int = 3
    """Candidate frames per frame kept."""
    fps_limit: float = 12.5
    """Candidate frames per second of video, at most: closer frames are nearly the same."""
    jpeg_quality: int = 95
    audio: bool = True
    frame_rate: float = 25.0
    """Frames per second of folders of frames."""
    crop: CropRule = field(default_factory=CropRule)
    quality: QualityRule = field(default_factory=QualityRule)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048:
            raise ValueError(f"size must lie in [16, 2048] pixels, got {self.size}")
        if self.frames_per_clip < self.quality.min_frames:
            raise ValueError(
                f"frames_per_clip ({self.frames_per_clip}) must be at least min_frames ({self.quality.min_frames})"
            )
        if not 0 < self.frame_rate <= 480:
            raise ValueError(f"frame_rate must lie in (0, 480] frames per second, got {self.frame_rate}")
        if self.oversample < 1 or self.fps_limit <= 0 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError(
                f"oversample ({self.oversample}), fps_limit ({self.fps_limit}) or jpeg_quality ({self.jpeg_quality}) "
                "is out of range"
            )


def clip_config(settings: Mapping[str, Any]) -> ClipConfig:
    """Return the clip config of a data set's settings; one that says nothing of a second look has none.

    Raises ValueError when this version does not know its fields.
    """
    try:
        return TypeAdapter(ClipConfig).validate_python({"second_look": False, **settings["clip"]})
    except (KeyError, ValidationError) as error:
        raise ValueError(f"the data set was begun by another version: {error}") from error
