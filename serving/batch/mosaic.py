"""Join several videos side by side into one: the same portrait driven by different people."""

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

    All videos are scaled to the height of the smallest (at most 720 pixels, and at most 4096 pixels of total width).
    The frame rate is exactly the highest among them, so that no video loses frames. At each time stamp a video shows
    its current frame, and after its end its last one. The mosaic is as long as the longest video. Sound comes from the
    first video that has any. Videos are decoded frame by frame, so memory does not grow with length.

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
    fps = max(info.fps for info in infos)
    expected = max(int(info.num_frames / info.fps * fps) for info in infos)
    sound = next((video for video, info in zip(videos, infos, strict=True) if info.has_audio), None)
    with ExitStack() as stack:
        readers = [
            _FrameReader(stack.enter_context(closing(_images(video))), info.fps, (width, height))
            for video, info, width in zip(videos, infos, widths, strict=True)
        ]
        writer = stack.enter_context(
            VideoWriter(out, width=sum(widths), height=height, fps=fps, audio_from=sound, comment=comment)
        )
        number = 0
        while True:
            time = number / fps
            images = [reader.at(time) for reader in readers]
            if all(reader.ended(time) for reader in readers):
                return number
            writer.write(np.concatenate(images, axis=1))
            number += 1
            if on_frame is not None:
                on_frame(number, max(number, expected))


def _images(video: Path) -> Generator[UInt8[np.ndarray, "height width 3"], None, None]:
    for frame in decode(video):
        yield frame.image


class _FrameReader:
    """Reads one video forwards and returns its scaled frame at a time stamp."""

    def __init__(
        self, images: Iterator[UInt8[np.ndarray, "height width 3"]], fps: Fraction, size: tuple[int, int]
    ) -> None:
        self._images, self._fps, self._size = images, fps, size
        self._shown: UInt8[np.ndarray, "height width 3"] | None = None
        self._num_read = 0
        self._ended = False

    def at(self, time: Fraction) -> UInt8[np.ndarray, "height width 3"]:
        """Return the frame shown at `time` seconds, after the end the last one. Times must not decrease."""
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

    def ended(self, time: Fraction) -> bool:
        """Return whether the video ends at or before `time`."""
        return self._ended and time >= self._num_read / self._fps


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
