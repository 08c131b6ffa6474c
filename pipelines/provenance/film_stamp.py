"""What every frame of a film carries besides what is drawn: the watermark, and a label that people can read."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.provenance.watermark import LumaWatermark, WatermarkKind

MAX_LABEL = 60
"""Characters of a label."""
_HEIGHT = 0.04  # of the text, as a share of the picture's shorter side
_MIN_HEIGHT = 10  # pixels
_WIDTH = 0.9  # of the picture, that a label takes at most
_WEIGHT = 400  # of the font: regular
_SHADE = 0.55  # of the black behind the text


def check_label(label: str) -> None:
    """Raise ValueError unless a label is empty or a short line of characters that the font has."""
    if len(label) > MAX_LABEL:
        raise ValueError(f"a label has at most {MAX_LABEL} characters, got {len(label)}")
    if label and not label.strip():
        raise ValueError("a label of spaces cannot be read")
    for character in label:
        if not character.isprintable() or not _has_glyph(character):
            raise ValueError(f"the font for labels has no {character!r}")


class FilmStamp:
    """Stamps the frames of one film. Each frame returned is valid until the next call.

    Args:
        model: version of the base model, which the watermark names.
        label: a line for a corner; empty: none.
    """

    def __init__(self, model: str, watermark: WatermarkKind = "luma", label: str = "") -> None:
        check_label(label)
        self._watermark = LumaWatermark(model) if watermark == "luma" else None
        self._label = label

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Return the stamped frame; frames that are given are not changed."""
        marked = image if self._watermark is None else self._watermark(image)
        return with_label(marked, self._label) if self._label else marked


def with_label(image: UInt8[np.ndarray, "height width 3"], label: str) -> UInt8[np.ndarray, "height width 3"]:
    """Return a copy of a picture with a label in its lower left corner: white on a darker strip. Raises ValueError."""
    check_label(label)
    labelled = image.copy()
    if label:
        text = _drawn(label, image.shape[1], image.shape[0])
        height, width = text.shape
        corner = labelled[image.shape[0] - height :, :width]
        corner[:] = ((1 - _SHADE) * (1 - text[..., None]) * corner + 255 * text[..., None]).round().astype(np.uint8)
    return labelled


@cache
def _drawn(label: str, width: int, height: int) -> np.ndarray:
    """Return the share of white of each pixel of the strip: float32 in [0, 1] (strip height, strip width)."""
    size = max(_MIN_HEIGHT, round(_HEIGHT * min(width, height)))
    while _width(label, size) > _WIDTH * width and size > 1:
        size -= 1
    margin = max(2, size // 3)
    page = np.zeros((min(height, size + 3 * margin), min(width, _width(label, size) + 2 * margin), 3), np.uint8)
    cv2.putText(page, label, (margin, size + margin), (255, 255, 255), _font(), size, _WEIGHT)
    return np.asarray(page[..., 0], dtype=np.float32) / 255


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")  # part of OpenCV: Latin, Greek, Cyrillic, Chinese, Japanese, Korean


def _width(text: str, size: int) -> int:
    box = cv2.getTextSize((0, 0), text, (0, 0), _font(), size, _WEIGHT)
    return int(box[0] + box[2])


@cache
def _has_glyph(character: str) -> bool:
    """Whether the font draws a character; for those that it lacks it draws a question mark."""
    drawn, missing = np.zeros((2, 48, 96, 3), np.uint8)
    cv2.putText(drawn, character, (8, 36), (255, 255, 255), _font(), 32, _WEIGHT)
    cv2.putText(missing, "?", (8, 36), (255, 255, 255), _font(), 32, _WEIGHT)
    return character in " ?" or bool(drawn.any() and (drawn != missing).any())
