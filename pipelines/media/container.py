"""Open untrusted media files: only regular files, listed container formats and the file protocol are allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,mxf,m4v,ivf"
SOUND_CONTAINERS = f"{CONTAINERS},wav,mp3,flac"
"""Of files whose sound is used, with or without pictures."""
# fmt: off
VIDEO_SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".avi", ".divx", ".ts", ".m2t", ".mts",
    ".m2ts", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".flv", ".f4v", ".ogv", ".wmv", ".asf", ".gif", ".mxf", ".ivf",
])
# fmt: on
"""Suffixes by which videos are recognised in folders, in lower case."""
_MAX_FPS = 480  # larger values in headers are mostly clock rates (1000, 90000)
_DEFAULT_FPS = Fraction(25)


@contextlib.contextmanager
def open_media(path: str | Path, formats: str = CONTAINERS) -> Iterator[Any]:
    """Open a file as an av container for reading.

    Args:
        formats: ffmpeg's names of the formats that are allowed, with commas between.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file, empty, or not one of the allowed formats. Errors of ffmpeg inside the block
            become one, too.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        # With "file:", ffmpeg does not read a name such as "http:x.mp4" or "-x.mp4" as a protocol or an option.
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise ValueError(f"{path} is not a readable video: {_reason(error)}") from error
    with container:
        try:
            yield container
        except MemoryError:
            raise
        except (av.error.FFmpegError, ArithmeticError, UnicodeError) as error:
            raise ValueError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):
        return "no video container that is allowed here, or a broken one"
    return str(text)


def frame_rate(stream: Any) -> Fraction:
    """Return the average rate, else the guessed or the base rate, else 25. Headers may be wrong (0, nan, 90000)."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and 0 < rate <= _MAX_FPS:
            return Fraction(rate.numerator, rate.denominator)
    return _DEFAULT_FPS
