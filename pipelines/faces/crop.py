"""One square crop per clip around the head.

`crop_affine` maps crop pixel coordinates to source pixel coordinates, so that a crop can be repeated from the source,
and a generated crop can be pasted back into it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8


@dataclass(frozen=True)
class CropRule:
    """How much of the image around the landmarks a crop takes. Stored in data sets and checkpoints."""

    margin: float = 2.0
    """Side of the crop, in units of the larger side of the landmarks' bounding box."""
    up: float = 0.12
    """Upward shift of the centre in units of the crop's side, because foreheads have no landmarks."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.margin <= 10.0:
            raise ValueError(f"margin must lie in [1, 10], got {self.margin}")
        if not -0.5 <= self.up <= 0.5:
            raise ValueError(f"up must lie in [-0.5, 0.5], got {self.up}")


def bounding_boxes(landmarks: Float[np.ndarray, "frames 68 2"]) -> Float[np.ndarray, "frames 4"]:
    """Return x0, y0, x1, y1 of each frame's landmarks."""
    return np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)


def crop_affine(landmarks: Float[np.ndarray, "frames 68 2"], rule: CropRule, size: int) -> Float64[np.ndarray, "2 3"]:
    """Return the crop of a clip: the median box times the margin, enlarged until every frame's box fits with 5 % spare.

    Args:
        landmarks: source pixel coordinates of all frames that the crop must contain.
        size: side of the crop in pixels.

    Raises:
        ValueError: no frames, or landmarks that are not finite or have no extent.
    """
    if landmarks.shape[0] == 0 or not np.isfinite(landmarks).all():
        raise ValueError(f"a crop needs finite landmarks of at least one frame, got {landmarks.shape[0]} frames")
    boxes = bounding_boxes(landmarks.astype(np.float64))
    box = np.median(boxes, axis=0)
    side = rule.margin * float(max(box[2] - box[0], box[3] - box[1]))
    if side <= 0:
        raise ValueError("the landmarks have no extent: all 68 points coincide")
    middle = (box[:2] + box[2:]) / 2
    centre = middle - np.array([0.0, rule.up * side])
    reach = max(float((boxes[:, 2:] - centre).max()), float((centre - boxes[:, :2]).max()))
    side = max(side, 2 * reach / (1 - 2 * 0.05))
    scale = side / size
    origin = centre - side / 2
    # Pixel centres are at integers: the crop's outer edge at -0.5 lies on the square's edge.
    shift = origin + scale * 0.5
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]], dtype=np.float64)


def crop(
    image: UInt8[np.ndarray, "height width 3"], affine: Float64[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut the square out of `image`: area averaging when shrinking, cubic when enlarging, edges replicated outside."""
    height, width = image.shape[:2]
    scale = float(affine[0, 0])
    if scale <= 1.0:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return _u8(cv2.warpAffine(image, affine, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE))
    # Shrinking: first cut the square at its own resolution (bilinear with a sub-pixel shift), then average areas.
    whole = max(int(np.ceil(scale * size)), size)
    step = scale * size / whole
    origin = affine[:, 2] - 0.5 * scale + 0.5 * step
    fine = np.array([[step, 0.0, origin[0]], [0.0, step, origin[1]]])
    if whole > 4 * max(height, width):  # guard the allocation: crops around detected faces are never this large
        raise ValueError(f"a crop of {whole} pixels is too large for a picture of {width}x{height}")
    cut = cv2.warpAffine(
        image,
        fine,
        (whole, whole),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _u8(cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA))


def _u8(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    assert image.dtype == np.uint8
    return image


def to_crop(
    landmarks: Float[np.ndarray, "*frames 68 2"], affine: Float64[np.ndarray, "2 3"]
) -> Float[np.ndarray, "*frames 68 2"]:
    """Transform source pixels to crop pixels, float32."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.asarray((landmarks - affine[:, 2]) @ inverse.T, dtype=np.float32)


def to_source(
    landmarks: Float[np.ndarray, "*frames 68 2"], affine: Float64[np.ndarray, "2 3"]
) -> Float[np.ndarray, "*frames 68 2"]:
    """Transform crop pixels to source pixels, float32."""
    return np.asarray(landmarks @ affine[:, :2].T + affine[:, 2], dtype=np.float32)
