"""Face boxes: overlap, interpolation between detected frames, and detection around known boxes (hints)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from pipelines.faces.face import Box, Candidates, Face, make_face

_SAME_FACE_IOU = 0.3  # least overlap of a face's boxes in two detected frames
_HINT_WINDOW = 2.0  # side of the window in which a hinted face is detected, in units of the hint
_MOST = 0.5  # share of a box, or of the frames
_MIN_HINT_FRAMES = 8  # frames after which failing hints are abandoned


def interpolate_boxes(before: Sequence[Box], after: Sequence[Box], share: float) -> list[Box]:
    """Return the boxes of a frame at `share` (0 to 1) of the way between two detected frames.

    Boxes that overlap in both are the same face and are interpolated. A face in only one of the two keeps its box over
    the nearer half.
    """
    pairs = _match(before, after)
    joined = {i for i, _ in pairs}, {j for _, j in pairs}
    boxes = [_interpolate(before[i], after[j], share) for i, j in pairs]
    alone, taken = (before, joined[0]) if share < 0.5 else (after, joined[1])
    return [*boxes, *(box for number, box in enumerate(alone) if number not in taken)]


def _match(before: Sequence[Box], after: Sequence[Box]) -> list[tuple[int, int]]:
    scored = sorted(
        ((overlap(a, b), i, j) for i, a in enumerate(before) for j, b in enumerate(after)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    pairs: list[tuple[int, int]] = []
    for score, i, j in scored:
        if score >= _SAME_FACE_IOU and all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return sorted(pairs)


def _interpolate(a: Box, b: Box, share: float) -> Box:
    x0, y0, x1, y1 = ((1 - share) * p + share * q for p, q in zip(a, b, strict=True))
    return x0, y0, x1, y1


def hint_at(hints: Mapping[int, Box], index: int) -> Box:
    """Return the hint of a frame: its own, else interpolated between its neighbours', else the nearest one's."""
    if index in hints:
        return hints[index]
    known = sorted(hints)
    columns = zip(*(hints[number] for number in known), strict=True)
    x0, y0, x1, y1 = (float(np.interp(index, known, column)) for column in columns)
    return x0, y0, x1, y1


def share_inside(box: Box, other: Box) -> float:
    """Return the share of `box`'s area that lies in `other`, in [0, 1]; 0 for a box without area."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return wide * high / area if wide > 0 and high > 0 and area > 0 else 0.0


def mostly_inside(box: Box, image: UInt8[np.ndarray, "height width 3"]) -> bool:
    """Whether most of the box lies in the image."""
    return share_inside(box, (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))) >= _MOST


def hints_failed(found: Sequence[object]) -> bool:
    """Whether most of the frames so far have no face at their hint. Falsy entries are frames without a face."""
    return sum(not faces for faces in found) > _MOST * len(found)


def follow_hints(
    clip: Candidates, detect: Callable[[UInt8[np.ndarray, "height width 3"]], list[Face]]
) -> list[list[Face]] | None:
    """Return the face in each frame, detected only around its hint.

    Returns None when the hints fail: most of them show no face, or lie outside the image. Published boxes may belong to
    another cut of the video.
    """
    found: list[list[Face]] = []
    for frame in clip.frames:
        found.append(face_at(frame.image, hint_at(clip.hints, frame.index), detect))
        if len(found) >= _MIN_HINT_FRAMES and hints_failed(found):
            return None
    return None if hints_failed(found) else found


def face_at(
    image: UInt8[np.ndarray, "height width 3"],
    hint: Box,
    detect: Callable[[UInt8[np.ndarray, "height width 3"]], list[Face]],
) -> list[Face]:
    """Return the face that lies mostly in the box `hint` and overlaps it best, detected in a window around it.

    The list is empty where there is none, or where most of the box lies outside the image.
    """
    if not mostly_inside(hint, image):
        return []
    x0, y0, x1, y1 = _window(hint, image)
    faces = detect(np.ascontiguousarray(image[y0:y1, x0:x1]))
    moved = [make_face(face.landmarks + np.array([x0, y0], np.float32), face.score, face.gaze) for face in faces]
    at_hint = [face for face in moved if share_inside(face.box, hint) >= _MOST]
    return sorted(at_hint, key=lambda face: -overlap(face.box, hint))[:1]


def _window(hint: Box, image: UInt8[np.ndarray, "height width 3"]) -> tuple[int, int, int, int]:
    """Return the window of the image around the hint, in whole pixels; never empty for a hint inside the image."""
    height, width = image.shape[:2]
    grow_x, grow_y = ((_HINT_WINDOW - 1) / 2 * (hint[i + 2] - hint[i]) for i in (0, 1))
    x0, y0 = max(0, int(hint[0] - grow_x)), max(0, int(hint[1] - grow_y))
    return x0, y0, min(width, int(hint[2] + grow_x) + 1), min(height, int(hint[3] + grow_y) + 1)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (x0, y0, x1, y1)."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(shared / (areas - shared))
