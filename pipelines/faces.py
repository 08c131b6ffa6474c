"""One square crop per clip around the head, and the choice of the face to follow.

`crop_affine` maps crop pixel coordinates to source pixel coordinates, so a crop can be redone from the source, and a
generated crop can be pasted back into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from pipelines.landmarks import Face


@dataclass(frozen=True)
class CropRule:
    """How much of the picture a crop takes around the landmarks. Stored in data sets and checkpoints."""

    margin: float = 2.0
    """Side of the crop, in units of the larger side of the landmarks' bounding box."""
    up: float = 0.12
    """How far the centre moves up, in units of the crop's side: foreheads have no landmarks."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.margin <= 10.0:
            raise ValueError(f"margin must lie in [1, 10], got {self.margin}")
        if not -0.5 <= self.up <= 0.5:
            raise ValueError(f"up must lie in [-0.5, 0.5], got {self.up}")


def bounding_boxes(landmarks: Float[np.ndarray, "frames 68 2"]) -> Float[np.ndarray, "frames 4"]:
    """x0, y0, x1, y1 of each frame's landmarks."""
    return np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)


def crop_affine(landmarks: Float[np.ndarray, "frames 68 2"], rule: CropRule, size: int) -> Float64[np.ndarray, "2 3"]:
    """The crop of a whole clip: median box times the margin, grown until every frame's box fits with 5 % to spare.

    Args:
        landmarks: pixel coordinates in the source, all frames that the crop must hold.
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
    # Pixel centres are integers: the crop's outer edge -0.5 lies on the square's edge.
    shift = origin + scale * 0.5
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]], dtype=np.float64)


def crop(
    image: UInt8[np.ndarray, "height width 3"], affine: Float64[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut the square out of `image`. Area-correct when shrinking, cubic when growing, edges replicated outside."""
    height, width = image.shape[:2]
    scale = float(affine[0, 0])
    if scale <= 1.0:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return _u8(cv2.warpAffine(image, affine, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE))
    # Shrinking: cut the square at its own resolution first (bilinear at a sub-pixel shift), then average areas.
    whole = max(int(np.ceil(scale * size)), size)
    step = scale * size / whole
    origin = affine[:, 2] - 0.5 * scale + 0.5 * step
    fine = np.array([[step, 0.0, origin[0]], [0.0, step, origin[1]]])
    if whole > 4 * max(height, width):  # a face that is tiny in the crop cannot happen; guard the allocation
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
    """Source pixels -> crop pixels, float32."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.asarray((landmarks - affine[:, 2]) @ inverse.T, dtype=np.float32)


def to_source(
    landmarks: Float[np.ndarray, "*frames 68 2"], affine: Float64[np.ndarray, "2 3"]
) -> Float[np.ndarray, "*frames 68 2"]:
    """Crop pixels -> source pixels, float32."""
    return np.asarray(landmarks @ affine[:, :2].T + affine[:, 2], dtype=np.float32)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(shared / (areas - shared))


@dataclass(frozen=True)
class Track:
    """One face followed through a clip: positions in the list of frames given, and the face in each."""

    frames: tuple[int, ...]
    faces: tuple[Face, ...]

    @property
    def extent(self) -> float:
        """Sum over frames of the box's larger side: long and large tracks first."""
        return float(sum(max(f.box[2] - f.box[0], f.box[3] - f.box[1]) for f in self.faces))


def link_tracks(faces: Sequence[Sequence[Face]], min_overlap: float = 0.15) -> tuple[Track, ...]:
    """Join the faces of consecutive frames that overlap, greedily, the best overlap first. A gap does not end a
    track: a face that comes back to where it was is the same face."""
    open_tracks: list[tuple[list[int], list[Face]]] = []
    for position, found in enumerate(faces):
        pairs = sorted(
            (
                (overlap(track[1][-1].box, face.box), number, index)
                for number, track in enumerate(open_tracks)
                for index, face in enumerate(found)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        used_tracks: set[int] = set()
        used_faces: set[int] = set()
        for score, number, index in pairs:
            if score < min_overlap or number in used_tracks or index in used_faces:
                continue
            open_tracks[number][0].append(position)
            open_tracks[number][1].append(found[index])
            used_tracks.add(number)
            used_faces.add(index)
        for index, face in enumerate(found):
            if index not in used_faces:
                open_tracks.append(([position], [face]))
    return tuple(Track(frames=tuple(frames), faces=tuple(members)) for frames, members in open_tracks)


def choose_track(faces: Sequence[Sequence[Face]], dominance: float = 1.5) -> Track | None:
    """The clip's main face: the longest and largest track.

    Returns None when there is no face at all.

    Raises:
        AmbiguousFace: a second track present in the same frames has more than 1/`dominance` of the main one's extent.
    """
    tracks = sorted(link_tracks(faces), key=lambda track: (-track.extent, track.frames))
    if not tracks:
        return None
    main = tracks[0]
    for other in tracks[1:]:
        together = len(set(main.frames) & set(other.frames))
        if together >= max(2, len(other.frames) // 2) and other.extent * dominance > main.extent:
            raise AmbiguousFace(
                f"two faces of about the same size share {together} frames, and neither is clearly the main one"
            )
    return main


class AmbiguousFace(ValueError):
    """Several faces share the clip and none is clearly the main one."""
