"""Join several videos side by side into one: the same portrait driven by different people."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from pipelines.media.encode import Stamp
from pipelines.media.frame_times import FrameTimes, read_frame_times
from pipelines.media.sound import find_sound
from pipelines.media.video import VideoWriter, decode, probe

_MAX_HEIGHT = 720
_MAX_WIDTH = 4096  # H.264 level 5.1, what most players decode
_SAME_S = 1e-3  # frames of two videos that are shown so close to each other change at once


def write_mosaic(
    videos: Sequence[Path],
    out: Path,
    *,
    comment: str | None = None,
    stamp: Stamp | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> int:
    """Write `videos` side by side to `out` and return the number of frames.

    All videos are scaled to the height of the smallest (at most 720 pixels, and at most 4096 pixels of total width).
    The frame rate is exactly the highest among them, so that no video loses frames. If one has a variable rate, the
    mosaic has a frame whenever one of the videos has. At each time a video shows its current frame, and after its end
    its last one. The mosaic is as long as the longest video. Sound comes from the first video that has any. Videos are
    decoded frame by frame, so memory does not grow with length.

    Args:
        on_frame: called with the number of frames done and the expected total.

    Raises:
        ValueError: there are no videos, or one cannot be decoded.
    """
    if not videos:
        raise ValueError("a mosaic needs at least one video, got none")
    infos = [probe(video) for video in videos]
    row_aspect = sum(info.width / info.height for info in infos)
    height = _even(min(float(_MAX_HEIGHT), _MAX_WIDTH / row_aspect, *(float(info.height) for info in infos)))
    widths = [_even(info.width * height / info.height) for info in infos]
    parts = [read_frame_times(video, info.fps) for video, info in zip(videos, infos, strict=True)]
    fps, variable = max(part.fps for part in parts), not all(part.constant for part in parts)
    times = _variable_times(parts) if variable else _constant_times(parts, fps)
    heard = next((at for at, info in enumerate(infos) if info.has_audio), None)
    sound = None if heard is None else find_sound(videos[heard], infos[heard].start_s)[0]
    with ExitStack() as stack:
        readers = [
            _FrameReader(stack.enter_context(closing(_images(video))), (width, height))
            for video, width in zip(videos, widths, strict=True)
        ]
        writer = stack.enter_context(
            VideoWriter(
                out,
                width=sum(widths),
                height=height,
                fps=fps,
                variable=variable,
                sound=sound,
                comment=comment,
                stamp=stamp,
            )
        )
        for number, seconds in enumerate(times):
            images = [reader.at(_shown(part, seconds)) for reader, part in zip(readers, parts, strict=True)]
            writer.write(np.concatenate(images, axis=1), float(seconds) if variable else None)
            if on_frame is not None:
                on_frame(number + 1, len(times))
    return len(times)


def _constant_times(parts: Sequence[FrameTimes], fps: Fraction) -> Float64[np.ndarray, mosaic_frames]:
    number = max(-(-len(part) * fps // part.fps) for part in parts)
    return np.arange(number) / float(fps)


def _variable_times(parts: Sequence[FrameTimes]) -> Float64[np.ndarray, mosaic_frames]:
    """Return the times at which any of the videos changes."""
    times = np.unique(np.concatenate([part.seconds for part in parts]))
    return times[np.diff(times, prepend=-1.0) > _SAME_S]


def _shown(part: FrameTimes, seconds: float) -> int:
    """Return the number of the frame that a video shows at a time."""
    return int(np.searchsorted(part.seconds, seconds + _SAME_S, side="right")) - 1


def _images(video: Path) -> Generator[UInt8[np.ndarray, "height width 3"], None, None]:
    for frame in decode(video):
        yield frame.image


class _FrameReader:
    """Reads one video forwards and returns its scaled frames by number."""

    def __init__(self, images: Iterator[UInt8[np.ndarray, "height width 3"]], size: tuple[int, int]) -> None:
        self._images, self._size = images, size
        self._shown: UInt8[np.ndarray, "height width 3"] | None = None
        self._num_read = 0

    def at(self, wanted: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return frame `wanted`, after the end the last one. Numbers must not decrease."""
        while self._num_read <= wanted and (image := next(self._images, None)) is not None:
            self._shown = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            self._num_read += 1
        assert self._shown is not None, "decode yields at least one frame or raises"
        return self._shown


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
