"""Several videos in a row, as one: the same portrait driven by different people."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.media.video import VideoWriter, decode, probe

_MAX_HEIGHT = 720
_MAX_WIDTH = 4096  # H.264 level 5.1, what most players decode


def write_mosaic(
    videos: Sequence[Path],
    out: Path,
    *,
    comment: str | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> int:
    """Write `videos` side by side to `out` and return the number of frames.

    `on_frame` is called with (frames done, about how many there will be).

    All are scaled to the smallest one's height (at most 720 pixels, and at most 4096 in a row). The frame rate is the
    highest among them, exactly, so that no video loses frames: each shows its frame of that moment, and its last one
    once it is over. The mosaic lasts as long as the longest. Sound is that of the first video that has any. Memory
    does not grow with length.

    Raises:
        ValueError: no videos, or one that cannot be decoded.
    """
    if not videos:
        raise ValueError("a mosaic needs at least one video, got none")
    infos = [probe(video) for video in videos]
    row_aspect = sum(info.width / info.height for info in infos)
    height = _even(min(float(_MAX_HEIGHT), _MAX_WIDTH / row_aspect, *(float(info.height) for info in infos)))
    widths = [_even(info.width * height / info.height) for info in infos]
    fps = max(info.fps for info in infos)
    expected = max(int(info.num_frames / info.fps * fps) for info in infos)
    sound = next((video for video, info in zip(videos, infos, strict=True) if info.has_audio), None)
    with ExitStack() as stack:
        tracks = [
            _Track(stack.enter_context(closing(_images(video))), info.fps, (width, height))
            for video, info, width in zip(videos, infos, widths, strict=True)
        ]
        writer = stack.enter_context(
            VideoWriter(out, width=sum(widths), height=height, fps=fps, audio_from=sound, comment=comment)
        )
        number = 0
        while True:
            time = number / fps
            images = [track.at(time) for track in tracks]
            if all(track.over(time) for track in tracks):
                return number
            writer.write(np.concatenate(images, axis=1))
            number += 1
            if on_frame is not None:
                on_frame(number, max(number, expected))


def _images(video: Path) -> Generator[UInt8[np.ndarray, "height width 3"], None, None]:
    for frame in decode(video):
        yield frame.image


class _Track:
    """One video, read forwards: its picture at a moment, scaled."""

    def __init__(
        self, images: Iterator[UInt8[np.ndarray, "height width 3"]], fps: Fraction, size: tuple[int, int]
    ) -> None:
        self._images, self._fps, self._size = images, fps, size
        self._shown: UInt8[np.ndarray, "height width 3"] | None = None
        self._num_read = 0
        self._ended = False

    def at(self, time: Fraction) -> UInt8[np.ndarray, "height width 3"]:
        """The picture shown at `time` seconds; the last one when the video is over. Times never go back."""
        wanted = int(time * self._fps)  # frame n is shown from n / fps until the next
        while self._num_read <= wanted and not self._ended:
            image = next(self._images, None)
            if image is None:
                self._ended = True
            else:
                self._shown = image
                self._num_read += 1
        assert self._shown is not None, "decode yields at least one frame or raises"
        return np.asarray(cv2.resize(self._shown, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def over(self, time: Fraction) -> bool:
        """Whether all its frames were shown before `time`."""
        return self._ended and time >= self._num_read / self._fps


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
