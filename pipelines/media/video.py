"""Probe and decode untrusted videos.

Only files are opened (`protocol_whitelist=file`), and only in the listed container formats, so that a playlist named
.mp4 cannot make ffmpeg open other files. Decoding uses one thread and holds one frame in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.media.container import frame_rate, open_media
from pipelines.media.display import RgbConverter, display_size, orientation
from pipelines.media.encode import VideoWriter
from pipelines.media.ffmpeg_process import ffmpeg_executable
from pipelines.media.images import read_image
from pipelines.media.streams import MAX_PIXELS, frames_of, picture_stream, sound_streams
from pipelines.media.timestamps import FrameTable

__all__ = [
    "Frame",
    "VideoInfo",
    "VideoWriter",
    "decode",
    "ffmpeg_executable",
    "probe",
    "read_image",
]

_TIMED_BY_PACKETS = frozenset({"avi", "asf"})
_PROGRESS_EVERY = 50  # frames
_MIN_SKIPPED_FRAMES = 24  # frames that a seek must save: it flushes the decoder, which costs about as much


@dataclass(frozen=True)
class VideoInfo:
    """Properties from a file's header and first frame. Sizes are as displayed: rotation and pixel aspect applied.

    `num_frames` is the header's value, else an estimate from the duration, else 0; `read_frame_table` counts frames.
    `rotation` is the display matrix's angle in degrees. `has_audio`: a sound stream of a known codec. `start_s` is the
    time of the first frame on the file's clock, seconds.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_s: float
    codec: str
    has_audio: bool
    rotation: int
    start_s: Fraction = Fraction(0)


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: its number in the file, its time in microseconds, RGB pixels as displayed."""

    index: int
    pts_us: int
    image: UInt8[np.ndarray, "height width 3"]


def probe(path: str | Path) -> VideoInfo:
    """Read the header and decode one frame, which proves that the file is a video.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a video, or no frame can be decoded; the message names the file and the reason.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = picture_stream(container, path)
        fps = frame_rate(stream)
        duration = 0.0
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / 1e6
        first = next(frames_of(container, stream), None)
        if first is None:
            raise ValueError(f"{path} holds no frame that can be decoded")
        width, height = display_size(first, stream)
        if orientation(first)[0]:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            fps=fps,
            num_frames=int(stream.frames) or max(0, round(duration * fps)),
            duration_s=duration,
            codec=str(stream.codec_context.codec.canonical_name),
            has_audio=bool(sound_streams(container)),
            rotation=int(first.rotation),
            start_s=Fraction(_Clock(container, stream).time_us(first, 0), 1_000_000),
        )


def decode(
    path: str | Path,
    *,
    frame_indices: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
    table: FrameTable | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[Frame]:
    """Yield frames in order, as displayed: rotated, square pixels, all of the first frame's size. Memory is constant.

    Args:
        frame_indices: only these frames (numbers from 0; order and repeats do not matter); None for all. Numbers past
            the end are ignored.
        max_pixels: largest frame accepted.
        table: the file's frame table; with it, seeking skips frames of a long video that are not wanted.
        on_progress: called every 50 frames while unwanted frames are decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a video, a frame larger than `max_pixels`, or no frame can be decoded.
    """
    path = Path(path)
    wanted = None if frame_indices is None else sorted(set(frame_indices))
    with open_media(path) as container:
        stream = picture_stream(container, path)
        start_us: int | None = None
        number = -1
        if wanted is not None and table is not None and table.can_seek:
            numbered = _decode_with_seeks(container, stream, wanted, table)
        else:
            numbered = _decode_in_order(container, stream, wanted, table)
        clock, convert = _Clock(container, stream), None
        for number, index, frame in numbered:
            if frame.width * frame.height > max_pixels:
                raise ValueError(f"{path}: frames of {frame.width}x{frame.height} exceed {max_pixels} pixels")
            convert = convert or RgbConverter(path, display_size(frame, stream))
            shown_us = clock.time_us(frame, number if index is None else index)
            if start_us is None:
                start_us = _start_us(frame, shown_us, None if clock.by_packets else table)
            if index is not None:
                yield Frame(index, shown_us - start_us, convert(frame))
            elif on_progress is not None and number % _PROGRESS_EVERY == 0:
                on_progress()
        if number < 0:
            raise ValueError(f"{path} holds no frame that can be decoded")


def _decode_in_order(
    container: Any, stream: Any, wanted: Sequence[int] | None, table: FrameTable | None
) -> Iterator[tuple[int, int | None, Any]]:
    """Yield every frame up to the last wanted one: (frames decoded before, its number if it is wanted, the frame).

    With a table, a frame is numbered by its timestamp, so that frames lost to damage do not shift the numbers.
    """
    chosen = None if wanted is None else frozenset(wanted)
    for decoded, frame in enumerate(frames_of(container, stream)):
        timed = table.number_of(frame.pts) if table is not None else None
        number = decoded if timed is None else timed
        yield decoded, number if chosen is None or number in chosen else None, frame
        if wanted is not None and (not wanted or number >= wanted[-1]):
            return


def _decode_with_seeks(
    container: Any, stream: Any, wanted: Sequence[int], table: FrameTable
) -> Iterator[tuple[int, int | None, Any]]:
    """Yield as `_decode_in_order`, but seek from a wanted frame to the last keyframe before the next one. Frames are
    identified by their timestamps."""
    position = decoded = 0
    frames = frames_of(container, stream)
    for target in wanted:
        keyframe = table.keyframe_before(target)
        if keyframe > position + _MIN_SKIPPED_FRAMES:
            container.seek(int(table.pts[keyframe]), stream=stream)
            frames = frames_of(container, stream)
        for frame in frames:
            index = table.number_of(frame.pts)
            yield decoded, index if index == target else None, frame
            decoded += 1
            if index is not None and index >= target:
                position = index + 1
                break


def _start_us(frame: Any, shown_us: int, table: FrameTable | None) -> int:
    """Return the time of the video's first frame, from the table: after a seek, the first decoded frame is later."""
    if table is not None and table.pts.size and frame.time_base:
        start: int = round(int(table.pts[0]) * frame.time_base * 1_000_000)
        return start
    return shown_us


class _Clock:
    """Tells the time of each frame in microseconds: by its timestamp, or else by its packet's, or else by its number.

    AVI and ASF store the times of packets only; ffmpeg guesses those of frames, and for H.264 one frame too late.
    Elsewhere packets' times are used where the frames' run backwards more often.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._fps = frame_rate(stream)
        reordered = stream.codec_context.codec.canonical_name in ("h264", "hevc")
        self.by_packets = reordered and container.format.name in _TIMED_BY_PACKETS
        self._last: dict[str, int] = {}
        self._backwards = {"pts": 0, "dts": 0}

    def time_us(self, frame: Any, index: int) -> int:
        for name, value in (("dts", frame.dts), ("pts", frame.pts)):
            if value is not None:
                self._backwards[name] += name in self._last and value <= self._last[name]
                self._last[name] = value
        by_packet = self.by_packets or self._backwards["pts"] > self._backwards["dts"]
        stamp = frame.dts if frame.pts is None or (by_packet and frame.dts is not None) else frame.pts
        if stamp is None or not frame.time_base:
            return round(index * 1_000_000 / self._fps)
        time_us: int = round(stamp * frame.time_base * 1_000_000)
        return time_us
