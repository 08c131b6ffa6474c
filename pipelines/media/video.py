"""Read videos and pictures from outside, safely, and write H.264: probe, decode, encode, mux.

Only files are opened (`protocol_whitelist=file`) and only as one of the listed containers, so that a playlist named
.mp4 cannot make ffmpeg open other files. One decoding thread, one frame in memory at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from jaxtyping import UInt8

from pipelines.media.container import frame_rate, open_media, video_stream
from pipelines.media.encode import VideoWriter, ffmpeg_executable
from pipelines.media.images import read_image
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

MAX_PIXELS = 4096 * 2304  # of one video frame: 4K and a little more
_PROGRESS_EVERY = 50  # frames
_WORTH_A_JUMP = 24  # frames that a jump must save: it empties the decoder and costs about as much


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header and first frame say. Sizes are as displayed: rotation and pixel aspect applied.

    `num_frames` is the header's word, or an estimate from the duration; 0 when neither is known; `read_frame_table`
    counts. `rotation` is the angle the display matrix asks for, in degrees.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_s: float
    codec: str
    has_audio: bool
    rotation: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: its number in the clip, its time in microseconds, RGB pixels as displayed."""

    index: int
    pts_us: int
    image: UInt8[np.ndarray, "height width 3"]


def probe(path: str | Path) -> VideoInfo:
    """Read the header and decode one frame: what passes is a video.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: it is no video, or no frame of it can be decoded; the message names file and reason.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = video_stream(container, path)
        fps = frame_rate(stream)
        duration = 0.0
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / 1e6
        first = next(_frames(container, stream), None)
        if first is None:
            raise ValueError(f"{path} holds no frame that can be decoded")
        width, height = _display_size(first, stream)
        if (first.rotation // 90) % 2:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            fps=fps,
            num_frames=int(stream.frames) or max(0, round(duration * fps)),
            duration_s=duration,
            codec=str(stream.codec_context.codec.canonical_name),
            has_audio=bool(container.streams.audio),
            rotation=int(first.rotation),
        )


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; packets that cannot be decoded are skipped and a file that is cut off ends early."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            packet = None  # the file ends in the middle
        if packet is None:
            return
        with contextlib.suppress(av.error.FFmpegError):
            yield from packet.decode()


def _display_size(frame: Any, stream: Any) -> tuple[int, int]:
    ratio = stream.sample_aspect_ratio
    width = frame.width
    if ratio and 0.1 < ratio < 10 and ratio != 1:
        width = max(1, round(frame.width * ratio))
    return width, frame.height


def decode(
    path: str | Path,
    *,
    frame_indices: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
    table: FrameTable | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[Frame]:
    """Frames in order, as displayed: rotated, square pixels, the first frame's size throughout. Flat memory.

    Args:
        frame_indices: only these frames (numbers from 0; order and repeats do not matter); None for all. Numbers past
            the end give nothing.
        max_pixels: largest frame accepted.
        table: of this file; with it, a long film is not decoded between frames that lie far apart.
        on_progress: called now and then while frames are decoded that are not asked for.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no video, a frame larger than `max_pixels`, or no frame at all can be decoded.
    """
    path = Path(path)
    wanted = None if frame_indices is None else sorted(set(frame_indices))
    with open_media(path) as container:
        stream = video_stream(container, path)
        fps = frame_rate(stream)
        size: tuple[int, int] | None = None
        start_us: int | None = None
        number = -1
        if wanted is not None and table is not None and table.can_seek:
            numbered = _jump(container, stream, wanted, table)
        else:
            numbered = _sift(container, stream, wanted, table)
        for number, index, frame in numbered:
            if frame.width * frame.height > max_pixels:
                raise ValueError(f"{path}: frames of {frame.width}x{frame.height} exceed {max_pixels} pixels")
            size = size or _display_size(frame, stream)
            if start_us is None:
                start_us = _start_us(frame, index, fps, table)
            if index is not None:
                yield Frame(index, _time_us(frame, index, fps) - start_us, _to_rgb(frame, size))
            elif on_progress is not None and number % _PROGRESS_EVERY == 0:
                on_progress()
        if number < 0:
            raise ValueError(f"{path} holds no frame that can be decoded")


def _sift(
    container: Any, stream: Any, wanted: Sequence[int] | None, table: FrameTable | None
) -> Iterator[tuple[int, int | None, Any]]:
    """Every frame up to the last one wanted: how many came before, its number if it is wanted, the frame.

    With a table a frame's time tells its number: frames that damage has taken away are not counted over.
    """
    chosen = None if wanted is None else frozenset(wanted)
    for decoded, frame in enumerate(_frames(container, stream)):
        timed = table.number_of(frame.pts) if table is not None else None
        number = decoded if timed is None else timed
        yield decoded, number if chosen is None or number in chosen else None, frame
        if wanted is not None and (not wanted or number >= wanted[-1]):
            return


def _jump(
    container: Any, stream: Any, wanted: Sequence[int], table: FrameTable
) -> Iterator[tuple[int, int | None, Any]]:
    """As `_sift`, without the frames between a wanted one and the last keyframe before the next. Frames are known by
    their times."""
    position = decoded = 0
    frames = _frames(container, stream)
    for target in wanted:
        keyframe = table.keyframe_before(target)
        if keyframe > position + _WORTH_A_JUMP:
            container.seek(int(table.pts[keyframe]), stream=stream)
            frames = _frames(container, stream)
        for frame in frames:
            index = table.number_of(frame.pts)
            yield decoded, index if index == target else None, frame
            decoded += 1
            if index is not None and index >= target:
                position = index + 1
                break


def _start_us(frame: Any, index: int | None, fps: Fraction, table: FrameTable | None) -> int:
    """The time of the film's first frame; after a jump, the first frame seen is a later one."""
    if table is not None and table.pts.size and frame.time_base:
        start: int = round(int(table.pts[0]) * frame.time_base * 1_000_000)
        return start
    return _time_us(frame, index or 0, fps)


def _time_us(frame: Any, index: int, fps: Fraction) -> int:
    if frame.pts is None or not frame.time_base:
        return round(index * 1_000_000 / fps)
    time_us: int = round(frame.pts * frame.time_base * 1_000_000)
    return time_us


def _to_rgb(frame: Any, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    width, height = size
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = round(frame.rotation / 90) % 4
    # PyAV's rotation is counter-clockwise, as is numpy's.
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
