"""Turn decoded frames into RGB pictures as a player shows them: matrix, range, HDR, pixel aspect, orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from jaxtyping import UInt8

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_HDR = frozenset([ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67, ColorTrc.LINEAR])
_WIDE = frozenset([ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432])
# Curves within a few levels of each other, which players show without a conversion.
_SDR = {int(trc): trc for trc in (ColorTrc.BT709, ColorTrc.IEC61966_2_1, ColorTrc.GAMMA22, ColorTrc.GAMMA28)}


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

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame as displayed, in sRGB.

        HDR (PQ, HLG) and linear light are mapped to the range of BT.709, with 203 cd/m2 as white; wide primaries
        (BT.2020, P3) are converted to BT.709's.

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
        transposed, mirrored, upside_down = orientation(frame)
        if transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def _conversion(frame: Any) -> dict[str, Any]:
    """Return the arguments of `VideoReformatter.reformat` that depend on a frame's colours."""
    options: dict[str, Any] = {}
    if frame.format.components[0].bits > 8:
        # swscale's fast way is off by up to 3 levels of 255 here. For 8 bits it is off by 2 and ten times as fast.
        options["interpolation"] = _EXACT
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb and is_hd(frame.width, frame.height):
        options["src_colorspace"] = "ITU709"  # swscale takes BT.601 for any size
    curve = int(frame.color_trc)
    if curve in _HDR:
        options |= {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
    elif int(frame.color_primaries) in _WIDE:
        options |= {"dst_color_trc": _SDR.get(curve, ColorTrc.BT709), "dst_color_primaries": ColorPrimaries.BT709}
    return options
