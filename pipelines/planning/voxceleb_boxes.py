"""Parse VoxCeleb's text files of face boxes: one file per clip, one line per frame (X, Y, W, H), at 25 frames/s.

VoxCeleb2 gives fractions of the frame's size, VoxCeleb1 pixels of a frame 360 pixels high (its authors' working size).
The boxes refer to the videos as published on the web, not to the face crops that VoxCeleb2 distributed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from pipelines.faces.face import Box

FPS = 25
_PIXEL_HEIGHT = 360.0
_LARGEST_FRACTION = 4.0  # boxes may extend beyond the frame, but not by four times its size


@dataclass(frozen=True, eq=False)
class BoxTrack:
    """The boxes of one clip, ascending in time. `frames` counts 1/25 seconds from the start of the source video."""

    frames: Int[np.ndarray, frames]
    corners: Float[np.ndarray, "frames 4"]
    """x0, y0, x1, y1: fractions of the frame's size, or pixels of a frame 360 high."""
    in_fractions: bool
    in_pixels: bool = False
    """Whether they are pixels of the source video itself."""

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """Start of the first frame and end of the last, in seconds from the start of the source video."""
        return Fraction(int(self.frames[0]), FPS), Fraction(int(self.frames[-1]) + 1, FPS)

    def boxes_at(self, seconds: Mapping[int, float], width: int, height: int) -> dict[int, Box]:
        """Return the box of each frame: frame index -> pixels of a frame of `width` x `height`.

        Args:
            seconds: frame index -> seconds from the start of the source video. Frames outside the span get no box.
        """
        scale = np.array([width, height] * 2) if self.in_fractions else np.full(4, height / _PIXEL_HEIGHT)
        if self.in_pixels:
            scale = np.ones(4)
        first, last = map(float, self.span)
        boxes: dict[int, Box] = {}
        for index, time in seconds.items():
            if not first - 0.5 / FPS <= time <= last:
                continue
            x0, y0, x1, y1 = (
                float(np.interp(time * FPS, self.frames, side)) * by
                for side, by in zip(self.corners.T, scale, strict=True)
            )
            boxes[index] = (x0, y0, x1, y1)
        return boxes


def parse(text: str) -> BoxTrack:
    """Parse one file: header lines, then `FRAME X Y W H` and one line per frame.

    Raises:
        ValueError: no frame lines, or one that is not five numbers.
    """
    rows: list[tuple[float, ...]] = []
    started = False
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not started:
            started = words[:1] == ["FRAME"]
            continue
        if not words:
            continue
        try:
            row = tuple(map(float, words))
        except ValueError:
            row = ()
        if len(row) != 5 or not np.isfinite(row).all():
            raise ValueError(f"line {number} is not FRAME X Y W H: {line.strip()[:60]!r}")
        rows.append(row)
    if not rows:
        raise ValueError("it holds no boxes (a line FRAME X Y W H, then one line a frame)")
    table = np.array(sorted(rows))
    corners = np.concatenate([table[:, 1:3], table[:, 1:3] + table[:, 3:5]], axis=1)
    return BoxTrack(table[:, 0].astype(np.int64), corners, bool(np.abs(corners).max() <= _LARGEST_FRACTION))
