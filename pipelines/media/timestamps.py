"""Read each frame's display time, and the keyframes, from a video's packets, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pipelines.media.container import frame_rate, open_media
from pipelines.media.streams import packets_of, picture_stream

_MIN_FRAMES_TO_SEEK = 1500  # a minute at 25 frames/s; shorter videos are decoded from their beginning
_INDEXED = ("mov", "matroska")  # containers with an index of keyframes; in others a seek is inexact


@dataclass(frozen=True, eq=False)
class FrameTable:
    """The frames of one video in display order."""

    seconds: Float[np.ndarray, frames]
    """Time since the first frame."""
    pts: Int[np.ndarray, frames]
    """The container's presentation timestamps, ascending; empty if they are missing or not unique."""
    keyframes: Int[np.ndarray, keyframes]
    """Numbers of the frames that decoding can start from; empty if the container has no index of them."""

    def __len__(self) -> int:
        return int(self.seconds.shape[0])

    @property
    def can_seek(self) -> bool:
        """Whether seeking pays off: the video is long and has timestamps and keyframes."""
        return len(self) > _MIN_FRAMES_TO_SEEK and self.keyframes.shape[0] > 1

    def number_of(self, pts: int | None) -> int | None:
        """Return the number of the frame with this timestamp, or None."""
        if pts is None:
            return None
        at = int(np.searchsorted(self.pts, pts))
        return at if at < self.pts.shape[0] and self.pts[at] == pts else None

    def keyframe_before(self, number: int) -> int:
        """Return the last keyframe at or before frame `number`."""
        at = int(np.searchsorted(self.keyframes, number, side="right")) - 1
        return int(self.keyframes[at]) if at >= 0 else 0


def read_frame_table(path: str | Path) -> FrameTable:
    """Read the table from the packets, at a hundredth of the cost of decoding.

    A file with broken packets may decode to fewer frames than the table has.

    Raises:
        FileNotFoundError, ValueError: as `container.open_media`; no video stream.
    """
    path = Path(path)
    times: list[int | None] = []
    starts: list[bool] = []
    with open_media(path) as container:
        stream = picture_stream(container, path)
        for packet in packets_of(container, stream):
            if packet.size and not packet.is_discard:
                times.append(packet.pts)
                starts.append(bool(packet.is_keyframe))
        indexed = any(name in container.format.name for name in _INDEXED)
        return _table(times, starts if indexed else [False] * len(times), stream)


def _table(times: list[int | None], starts: list[bool], stream: Any) -> FrameTable:
    nothing = np.zeros(0, np.int64)
    if None in times or len(set(times)) < len(times) or not stream.time_base:
        fps: Fraction = frame_rate(stream)
        return FrameTable(np.arange(len(times)) / float(fps), nothing, nothing)
    pts = np.array(times, np.int64)
    order = np.argsort(pts)
    seconds = (pts[order] - pts.min(initial=2**62)) * float(stream.time_base)
    return FrameTable(seconds, pts[order], np.flatnonzero(np.array(starts, bool)[order]))
