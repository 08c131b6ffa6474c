"""When the frames of a film are shown: at a constant rate, or each at a time of its own (a variable frame rate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int

from pipelines.media.timestamps import read_frame_table

_TOLERANCE_S = 0.0011  # Matroska, FLV and ASF round times to milliseconds
_MIN_GAP_S = 0.0005
_MAX_GAP_S = 600.0  # a larger jump is a broken clock, not a pause
_NTSC = Fraction(1000, 1001)
_MAX_RATE = 240


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """The times at which a film's frames are shown, and its rate."""

    seconds: Float64[np.ndarray, frames]
    """Since the first frame, ascending."""
    fps: Fraction
    """Exact when `constant`, else the rate of the film without its pauses."""
    constant: bool

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last one, which lasts `1 / fps`."""
        if self.constant:
            return float(len(self) / self.fps)
        return float(self.seconds[-1]) + float(1 / self.fps)

    @property
    def average_fps(self) -> Fraction:
        """Frames by duration; `fps` when it is constant."""
        return self.fps if self.constant else Fraction(len(self) / self.duration_s).limit_denominator(1001)

    def only(self, kept: Bool[np.ndarray, frames]) -> FrameTimes:
        """Return the times of a film that consists of the `kept` frames, each shown as long as before."""
        if self.constant:
            return FrameTimes(np.arange(int(kept.sum())) / float(self.fps), self.fps, constant=True)
        lasting = np.diff(self.seconds, append=self.duration_s)[kept]
        return FrameTimes(np.cumsum(lasting) - lasting, self.fps, constant=False)

    def shown_at(self, fps: Fraction) -> Int[np.ndarray, shown]:
        """Return the number of the frame that each frame of a film with the constant rate `fps` shows.

        It is the latest one at that time, or the next one if that begins within half a frame and is nearer.
        """
        shown_s = np.arange(max(1, round(self.duration_s * fps))) / float(fps)
        latest = np.searchsorted(self.seconds, shown_s + 1e-6, side="right") - 1
        following = np.minimum(latest + 1, len(self) - 1)
        lead, age = self.seconds[following] - shown_s, shown_s - self.seconds[latest]
        return np.where((lead <= 0.5 / float(fps) + 1e-6) & (lead < age), following, latest)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The frames of a video, in order; each is one of the driver's."""

    drawn: Int[np.ndarray, drawn]
    """Numbers of the driver's frames that are shown, ascending. Each is drawn once."""
    repeats: Int[np.ndarray, drawn]
    """How many frames of the video show it."""
    fps: Fraction
    seconds: Float64[np.ndarray, drawn] | None
    """Time of each, for a variable frame rate; None for a constant one."""

    @classmethod
    def of(cls, times: FrameTimes, fps: Fraction | None) -> Schedule:
        """Show the driver's frames when it shows them (`fps` None), or at a constant rate."""
        if fps is None or (times.constant and times.fps == fps):
            each = np.ones(len(times), np.int64)
            return cls(np.arange(len(times)), each, times.fps, None if times.constant else times.seconds)
        drawn, repeats = np.unique(times.shown_at(fps), return_counts=True)
        return cls(drawn, repeats, fps, None)

    @property
    def variable(self) -> bool:
        return self.seconds is not None

    def times_shown(self, position: int) -> list[float | None]:
        """Return the times at which the frame `drawn[position]` is shown: None for each at a constant rate."""
        if self.seconds is not None:
            return [float(self.seconds[position])]
        return [None] * int(self.repeats[position])


def frame_times(seconds: Sequence[float], header_fps: Fraction) -> FrameTimes:
    """Find the rate of a film from the times of its frames.

    The rate is constant when every time is within a millisecond of it: the header's rate, or else a usual one (a whole
    number, or that times 1000/1001). A time that is not after the one before it, or over ten minutes after it, is a
    jump of the film's clock: the film goes on after one frame.

    Args:
        seconds: of the frames in the order in which they are shown; at least one.
        header_fps: the rate that the file's header gives.
    """
    times = _without_jumps(np.asarray(seconds, np.float64), float(1 / header_fps))
    if len(times) == 1:
        return FrameTimes(times, header_fps, constant=True)
    for fps in (header_fps, *_usual_rates((len(times) - 1) / float(times[-1]))):
        if np.abs(times - np.arange(len(times)) / float(fps)).max() <= _TOLERANCE_S:
            return FrameTimes(times, fps, constant=True)
    typical = 1 / float(np.median(np.diff(times)))
    for fps in (header_fps, *_usual_rates(typical)):
        if abs(float(fps) / typical - 1) < 0.02:
            return FrameTimes(times, fps, constant=False)
    return FrameTimes(times, max(Fraction(typical).limit_denominator(1000), Fraction(1, 1000)), constant=False)


def read_frame_times(path: Path, header_fps: Fraction) -> FrameTimes:
    """Return the times of a whole film's frames, read from its packets.

    Raises:
        FileNotFoundError, ValueError: as `timestamps.read_frame_table`; no frame.
    """
    table = read_frame_table(path)
    if not len(table):
        raise ValueError(f"{path} holds no frame")
    return frame_times(table.seconds.tolist(), header_fps)


def parse_rate(text: str) -> Fraction | None:
    """Return a frame rate that is written as "keep" (None), "30", "29.97" or "30000/1001".

    23.976, 29.97, 59.94 and 119.88 stand for 24000/1001 and so on.

    Raises:
        ValueError: it is none of these, or not in [1, 240].
    """
    if text == "keep":
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"fps must be keep or a number of frames a second, got {text!r}") from None
    if not 1 <= rate <= _MAX_RATE:
        raise ValueError(f"fps must lie in [1, {_MAX_RATE}], got {text}")
    ntsc = round(rate / _NTSC) * _NTSC
    return ntsc if rate.denominator != 1 and abs(ntsc - rate) < Fraction(1, 200) else rate


def _usual_rates(near: float) -> tuple[Fraction, ...]:
    whole = max(Fraction(1), Fraction(round(near)))
    return whole, max(1, round(near / float(_NTSC))) * _NTSC, max(Fraction(1, 2), Fraction(round(near * 2), 2))


def _without_jumps(times: Float64[np.ndarray, frames], frame_s: float) -> Float64[np.ndarray, frames]:
    gaps = np.diff(times)
    gaps = np.where((gaps < _MIN_GAP_S) | (gaps > _MAX_GAP_S) | ~np.isfinite(gaps), frame_s, gaps)
    return np.concatenate([[0.0], np.cumsum(gaps)])
