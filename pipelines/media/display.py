"""Turn decoded frames into RGB pictures as a player shows them: matrix, range, HDR, pixel aspect, orientation."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from jaxtyping import Float64, UInt8
from PIL import Image, ImageFilter

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_PQ, _HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)
_TO_BT709 = {
    # From linear RGB of a gamut to that of BT.709; white is D65 in all of them. ITU-R BT.2087 for the first.
    int(ColorPrimaries.BT2020): ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    int(ColorPrimaries.SMPTE432): ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
_WHITE_NITS = 203.0  # diffuse white in HDR, ITU-R BT.2408
_PEAK_NITS = 1000.0  # the brightest light that keeps its differences
_GRID = 65  # points of a colour table along each axis, the most that Pillow takes


def is_hd(width: int, height: int) -> bool:
    """Return whether untagged colours of this size are BT.709's (HD) rather than BT.601's (SD), as mpv decides."""
    return width >= 1280 or height > 576


def display_size(frame: Any, stream: Any) -> tuple[int, int]:
    """Return width and height with square pixels, before the frame is turned."""
    ratio = stream.sample_aspect_ratio
    width = frame.width
    if ratio and 0.1 < ratio < 10 and ratio != 1:
        width = max(1, round(frame.width * ratio))
    return width, frame.height


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return what the display matrix does to a frame: transpose it, then flip it left to right, then upside down.

    Other angles than multiples of 90 degrees become the nearest one.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) < 36:
        return False, False, False
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


class RgbConverter:
    """Converts the frames of one film. It keeps swscale's state, which takes longer to make than a frame to convert."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        """Convert to `size` (width, height), before frames are turned."""
        self._path, self._size = path, size
        self._reformatter = VideoReformatter()
        self._orientation: tuple[bool, bool, bool] | None = None

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame as displayed, in sRGB.

        Wide gamuts (BT.2020, Display P3) are converted, and HDR (PQ, HLG) is tone-mapped, see `colour_table`.

        Raises:
            ValueError: the frame's colours cannot be converted; the message names the file.
        """
        width, height = self._size
        options = {"width": width, "height": height, "format": "rgb24", "threads": 1, **_conversion(frame)}
        try:
            image = self._reformatter.reformat(frame, **options).to_ndarray()
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            pixels = f"{frame.format.name} of colour space {int(frame.colorspace)}"
            raise ValueError(f"{self._path}: its pixels ({pixels}) cannot be converted to RGB") from error
        curve, primaries = int(frame.color_trc), int(frame.color_primaries)
        if curve in (_PQ, _HLG) or primaries in _TO_BT709:
            image = np.asarray(Image.fromarray(image).filter(colour_table(curve, primaries)))
        # Of the first frame, as the size. Looking at its side data makes a frame part of a reference cycle, which stays
        # in memory until the garbage collector comes by.
        self._orientation = self._orientation or orientation(frame)
        transposed, mirrored, upside_down = self._orientation
        if transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def _conversion(frame: Any) -> dict[str, Any]:
    """Return the arguments of `VideoReformatter.reformat` that depend on a frame's colours."""
    options: dict[str, Any] = {}
    if frame.format.components[0].bits > 8:
        # swscale's fast way is off by up to 3 levels of 255 here. For 8 bits it is off by 2 and ten times as fast.
        options["interpolation"] = _EXACT
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:  # swscale takes BT.601 for any size
        if int(frame.color_primaries) == ColorPrimaries.BT2020:
            options["src_colorspace"] = "BT2020"
        elif is_hd(frame.width, frame.height):
            options["src_colorspace"] = "ITU709"
    return options


@cache
def colour_table(curve: int, primaries: int) -> ImageFilter.Color3DLUT:
    """Return what converts RGB of a transfer curve and primaries (ffmpeg's numbers) to sRGB, in steps of 1/64.

    Light of PQ and HLG (for a display of 1,000 cd/m2, ITU-R BT.2100) is divided by 203 cd/m2, and compressed as ITU-R
    BT.2390 says: up to 92 cd/m2 it is unchanged, 1,000 cd/m2 and more becomes white. Hues are kept. Light of other
    curves is taken for sRGB's. Colours outside of the gamut of sRGB are clipped.
    """
    steps = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    signal = np.stack([red, green, blue], axis=-1)
    matrix = np.array(_TO_BT709.get(primaries, np.eye(3)))
    if curve == _PQ:
        light = _from_pq(signal) / _WHITE_NITS
    elif curve == _HLG:
        light = _from_hlg(signal) / _WHITE_NITS
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ matrix.T, 0, None)
    if curve in (_PQ, _HLG):
        brightest = light.max(axis=-1, keepdims=True)
        light = light * (_compressed(brightest) / np.maximum(brightest, 1e-9))
    light = np.clip(light, 0, 1)
    shown = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return ImageFilter.Color3DLUT(_GRID, shown.astype(np.float32).ravel(), target_mode="RGB")


def _from_pq(signal: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """SMPTE ST 2084: signal, 0 to 1, to cd/m2."""
    power = signal ** (1 / 78.84375)
    share = np.clip(power - 0.8359375, 0, None) / (18.8515625 - 18.6875 * power)
    return np.asarray(10_000 * share ** (1 / 0.1593017578125))


def _to_pq(nits: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    power = (nits / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _from_hlg(signal: Float64[np.ndarray, "*grid 3"]) -> Float64[np.ndarray, "*grid 3"]:
    """ITU-R BT.2100: signal, 0 to 1, to cd/m2 of a display with a peak of 1,000."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(_PEAK_NITS * scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2)


def _compressed(light: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """ITU-R BT.2390's curve: light in units of white, from a peak of 1,000 cd/m2 to 1."""
    peak, white = (float(_to_pq(np.array(nits))) for nits in (_PEAK_NITS, _WHITE_NITS))
    signal, most = np.minimum(_to_pq(light * _WHITE_NITS) / peak, 1), white / peak
    knee = 1.5 * most - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.asarray(_from_pq(np.where(signal < knee, signal, bent) * peak) / _WHITE_NITS)
