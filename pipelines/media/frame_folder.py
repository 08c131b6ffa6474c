"""Read a folder of numbered pictures like a film: one picture a frame, in the natural order of the names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.media.images import read_image
from pipelines.media.streams import MAX_PIXELS
from pipelines.media.timestamps import FrameTable
from pipelines.media.video import Frame, VideoInfo
from pipelines.storage import is_hidden
from pipelines.storage.hashing import sha256_of

FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""Suffixes of the pictures, in lower case."""
_DIGITS = re.compile(r"(\d+)")


def list_frames(folder: str | Path) -> list[Path]:
    """Return the pictures of the folder in natural order: 2.png before 10.png. Hidden files are left out."""
    found = (path for path in Path(folder).iterdir() if path.suffix.lower() in FRAME_SUFFIXES and path.is_file())
    return sorted((path for path in found if not is_hidden(path.name)), key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[tuple[int | str, ...], str]:
    """Return a key that sorts numbers inside names by their value. Names that differ in zeros alone come as text."""
    words = _DIGITS.split(name.casefold())
    return tuple(int(word) if number % 2 else word for number, word in enumerate(words)), name


def read_frame_table(folder: str | Path, rate: Fraction) -> FrameTable:
    """Return the table of the frames: number n is shown at n / `rate` seconds.

    Raises:
        ValueError: the folder holds no picture.
    """
    frames = list_frames(folder)
    if not frames:
        raise ValueError(f"{folder} holds no pictures ({', '.join(sorted(FRAME_SUFFIXES))})")
    nothing = np.zeros(0, np.int64)
    return FrameTable(np.arange(len(frames)) / float(rate), nothing, nothing)


def probe(folder: str | Path, rate: Fraction) -> VideoInfo:
    """Read the first picture that can be read. Raises ValueError when there is none; the message names the folder."""
    number = len(read_frame_table(folder, rate))
    height, width = next(decode(folder, rate)).image.shape[:2]
    return VideoInfo(width, height, rate, number, float(number / rate), "pictures", False, 0)


def decode(
    folder: str | Path, rate: Fraction, *, frame_indices: Sequence[int] | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame]:
    """Yield frames in order, as `video.decode` does: RGB, upright, all of the size of the first picture.

    Pictures that cannot be read are left out.

    Args:
        rate: frames per second.
        frame_indices: only these frames (numbers from 0); None for all. Numbers past the end are ignored.
        max_pixels: largest picture accepted.

    Raises:
        ValueError: a picture larger than `max_pixels`, or none of the pictures can be read.
    """
    paths = list_frames(folder)
    wanted = range(len(paths)) if frame_indices is None else sorted({n for n in frame_indices if 0 <= n < len(paths)})
    readable = ((index, image) for index in range(len(paths)) if (image := _read(paths[index], max_pixels)) is not None)
    first = next(readable, None)
    if first is None:
        raise ValueError(f"{folder} holds no picture that can be read")
    height, width = first[1].shape[:2]
    for index in wanted:
        image = first[1] if index == first[0] else _read(paths[index], max_pixels)
        if image is None:
            continue
        if image.shape[:2] != (height, width):
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        yield Frame(index, round(index * 1_000_000 / rate), image)


def _read(path: Path, max_pixels: int) -> UInt8[np.ndarray, "height width 3"] | None:
    """Return the picture, or None if it cannot be read. Raises ValueError for one that is too large."""
    try:
        image = read_image(path)
    except (ValueError, OSError):
        return None
    height, width = image.shape[:2]
    if height * width > max_pixels:
        raise ValueError(f"{path}: frames of {width}x{height} exceed {max_pixels} pixels")
    return image


def sha256(folder: str | Path) -> str:
    """Return a hex sha256 of the names and contents of the pictures, in order."""
    digest = hashlib.sha256()
    for path in list_frames(folder):
        digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()
