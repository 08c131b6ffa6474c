"""A mark in the luma of a film's frames, which survives what removes credentials: encoding again, and other sizes.

Spread spectrum (Cox and others, Secure spread spectrum watermarking for multimedia, 1997): every cell of a grid over
the whole picture is a little lighter or darker, by a sequence that everybody can compute and by the bits of a code that
corrects errors. All frames have the same pattern, so that encoders keep it as part of the picture, and a mean of frames
shows it. The grid spans the picture whatever its size; parts of a picture and mirrored ones cannot be read.

It is no signature: who knows this file can write it or remove it.
"""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import av
import av.error
import cv2
import numpy as np
from jaxtyping import Float32, Int8, UInt8

from pipelines.provenance.convolutional_code import code_length, decode, encode

WatermarkKind = Literal["luma", "none"]
AMPLITUDES = (1.2, 2.1)
"""Lowest and highest amplitude of the cells, levels of 255: PSNR 47 to 42.7 dB."""
MIN_SCORE = 9.5
"""Standard deviations that the code found must stand out. Where there is none, a code of this score, by chance one of
the 2^40 whose version and check sum fit, has the probability 2^40 * Q(9.5) = 1.2e-9 (normal distribution)."""
MIN_PIXELS = 128 * 128
"""Films with fewer pixels have no mark: no cells would be left of it."""
_VERSION = 1
_ID_BYTES = 5
_BITS = 8 * (1 + _ID_BYTES + 2)
_CELLS = 9216
# Grids of about square cells; a picture has that of the nearest ratio of sides, so that rounded sizes do not matter.
_RATIOS = tuple(2.0 ** (step / 2) for step in range(-4, 5))
_GRIDS_TRIED = 2
_BLUR, _SPREAD, _WEIGHT = 0.6, 1.2, 0.4  # of the reader: see `_evidence`
_MOST = 2.2  # standard deviations that one cell counts
_WANTED = 28.0  # the score in a film's first frame that decides its amplitude
_SMALL = 300_000  # pixels; of smaller pictures, encoders keep little

_EVERY, _FRAMES = 5, 48  # a mean of each fifth frame, of so many at most
_MAX_PIXELS = 64_000_000
_DECODE_S = 20.0

Grid = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class Watermark:
    """What a mark says."""

    model: str
    """The first ten hexadecimal digits of the base model's version."""
    score: float
    """Standard deviations by which it stands out."""


def model_digits(version: str) -> str:
    """Return what marks say of a model: the first digits of its version, or of the hash of what is no sha256."""
    is_hash = len(version) == 64 and all(each in "0123456789abcdef" for each in version)
    return (version if is_hash else hashlib.sha256(version.encode()).hexdigest())[: 2 * _ID_BYTES]


class LumaWatermark:
    """Marks the frames of one film. Its buffers are used again: each frame returned is valid until the next call.

    The first frame decides how strong the mark is: grainy pictures hide it from readers and eyes alike.

    Args:
        model: version of the base model.
    """

    def __init__(self, model: str) -> None:
        self._model = bytes.fromhex(model_digits(model))
        self._levels: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Return the frame with the mark; one of fewer than `MIN_PIXELS` as it is. All have the size of the first."""
        height, width = image.shape[:2]
        if height * width < MIN_PIXELS:
            return image
        if self._levels is None:
            levels = np.floor(_amplitude(image) * _wave(self._model, width, height) + _dither(width, height))
            lighter, darker = levels.clip(0, None), (-levels).clip(0, None)
            self._levels = cv2.merge([lighter.astype(np.uint8)] * 3), cv2.merge([darker.astype(np.uint8)] * 3)
            self._half, self._marked = np.empty_like(image), np.empty_like(image)
        cv2.add(image, self._levels[0], self._half)
        cv2.subtract(self._half, self._levels[1], self._marked)
        return self._marked


def _wave(model: bytes, width: int, height: int) -> Float32[np.ndarray, "height width"]:
    """Return the pattern, about -1 to 1, without edges."""
    grid = _nearest(width, height)[0]
    cells = (_chips(grid) * _signs(grid, model)).reshape(grid).astype(np.float32)
    return np.asarray(cv2.resize(cells, (width, height), None, 0, 0, cv2.INTER_CUBIC))


def _amplitude(image: UInt8[np.ndarray, "height width 3"]) -> float:
    height, width = image.shape[:2]
    if height * width < _SMALL:
        return AMPLITUDES[1]
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    weights = 1 / _cells(luma, _nearest(width, height)[0])[1]
    # What a reader finds of one level: a third of it, as each cell is compared with those around it.
    score = 0.33 * float(np.sqrt((weights**2).sum()))
    return float(np.clip(_WANTED / score, *AMPLITUDES))


def read_watermark(luma: Float32[np.ndarray, "height width"]) -> Watermark | None:
    """Return the mark in the mean luma of a film's frames, or None."""
    height, width = luma.shape
    if min(height, width) < 2:
        return None
    found = [_read(luma, grid) for grid in _nearest(width, height)[:_GRIDS_TRIED]]
    return max((each for each in found if each), key=lambda each: each.score, default=None)


def film_watermark(path: Path, format: str) -> Watermark | None:
    """Return the mark of a film, or None where there is none or nothing can be decoded.

    Args:
        format: libavformat's name of the container. It is not left to be guessed: playlists name other files.
    """
    total: Float32[np.ndarray, "height width"] | None = None
    number, until = 0, time.monotonic() + _DECODE_S
    try:
        with av.open(str(path), format=format) as container:
            for at, frame in enumerate(container.decode(video=0)):
                if number == _FRAMES or frame.width * frame.height > _MAX_PIXELS or time.monotonic() > until:
                    break
                if at % _EVERY:
                    continue
                luma = frame.to_ndarray(format="gray").astype(np.float32)
                if total is not None and total.shape != luma.shape:
                    break
                total, number = luma if total is None else total + luma, number + 1
    except (av.error.FFmpegError, IndexError, ValueError):  # what was decoded before may be enough
        pass
    return None if total is None else read_watermark(total / number)


def _read(luma: Float32[np.ndarray, "height width"], grid: Grid) -> Watermark | None:
    evidence = _evidence(luma, grid) * _chips(grid)
    owner = _owners(grid)
    bits = decode(np.bincount(owner, evidence, code_length(_BITS)))
    data = np.packbits(bits).tobytes()
    if data[0] != _VERSION or _check_sum(data[:-2]) != data[-2:]:
        return None
    agreement = evidence * encode(bits)[owner]
    score = float(agreement.sum() / math.sqrt(float((agreement**2).sum()) + 1e-12))
    return Watermark(data[1:-2].hex(), round(score, 1)) if score >= MIN_SCORE else None


def _evidence(luma: Float32[np.ndarray, "height width"], grid: Grid) -> np.ndarray:
    """Return how much lighter each cell is than those around it, as a number of standard deviations there.

    The picture itself is the noise. Where it is quiet, cells count more; no single one counts much.
    """
    cells, deviation = _cells(luma, grid)
    return np.asarray((cells / deviation).clip(-_MOST, _MOST) / deviation**_WEIGHT, dtype=np.float64).ravel()


def _cells(luma: Float32[np.ndarray, "height width"], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return how much lighter each cell is than those around it, and the standard deviation of that around it."""
    size = (2 * grid[1], 2 * grid[0])
    shrinks = luma.shape[1] >= size[0] and luma.shape[0] >= size[1]
    small = cv2.resize(luma, size, None, 0, 0, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    detail = small - cv2.GaussianBlur(small, (0, 0), 2 * _BLUR)
    cells = cv2.resize(detail, (grid[1], grid[0]), None, 0, 0, cv2.INTER_AREA).clip(-12, 12)
    return cells, np.sqrt(cv2.GaussianBlur(cells * cells, (0, 0), _SPREAD) + 0.05)


def _signs(grid: Grid, model: bytes) -> Int8[np.ndarray, " cells"]:
    data = bytes([_VERSION]) + model
    bits = np.unpackbits(np.frombuffer(data + _check_sum(data), np.uint8))
    return np.asarray(encode(bits)[_owners(grid)])


def _check_sum(data: bytes) -> bytes:
    return (zlib.crc32(data) & 0xFFFF).to_bytes(2, "big")


def _nearest(width: int, height: int) -> list[Grid]:
    """Return the grids, that of the picture's ratio of sides first."""
    ratios = sorted(_RATIOS, key=lambda ratio: abs(math.log(ratio * height / width)))
    return [(round(math.sqrt(_CELLS / ratio)), round(math.sqrt(_CELLS * ratio))) for ratio in ratios]


@cache
def _chips(grid: Grid) -> Int8[np.ndarray, " cells"]:
    """Return the pseudo-random sign of each cell."""
    return np.asarray((_random(grid, "signs") & 1).astype(np.int8) * 2 - 1)


@cache
def _owners(grid: Grid) -> np.ndarray:
    """Return the sign of the code that each cell carries: each has as many cells, anywhere in the picture."""
    order = np.argsort(_random(grid, "order"), kind="stable")
    owners = np.empty(len(order), np.int64)
    owners[order] = np.arange(len(order)) % code_length(_BITS)
    return owners


def _random(grid: Grid, use: str) -> np.ndarray:
    """Return a 64-bit number for each cell: of SHAKE-256, as numpy's generators may change."""
    number = grid[0] * grid[1]
    seed = f"sfumato luma mark {_VERSION} {use} {grid[0]} {grid[1]}".encode()
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * number), "<u8")


def _dither(width: int, height: int) -> np.ndarray:
    """Return thresholds in [0, 1) that round a slow wave to levels without edges (interleaved gradient noise, Jimenez
    2014)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return np.asarray(np.mod(52.9829189 * np.mod(0.06711056 * x + 0.00583715 * y, 1.0), 1.0))
