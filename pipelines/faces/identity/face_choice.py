"""Which of several faces is meant: a number, a point or a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.faces.boxes import overlap
from pipelines.faces.face import Box, Face

FORMS = "N|X,Y|X0,Y0,X1,Y1"
_MARGIN = 0.3  # of a face's box, in which a point counts: the landmarks' box ends at the brows


@dataclass(frozen=True)
class FaceChoice:
    """A face by its number, 0 for the largest, or by a place in pixels of the picture."""

    number: int = 0
    place: Box | None = None
    """x0, y0, x1, y1, without area for a point; None: `number` counts."""

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"the number of a face must not be negative, got {self.number}")

    def __str__(self) -> str:
        if self.place is None:
            return str(self.number)
        x0, y0, x1, y1 = self.place
        return ",".join(f"{value:g}" for value in (self.place if (x0, y0) != (x1, y1) else (x0, y0)))

    def find(self, faces: Sequence[Face]) -> Face | None:
        """Return the chosen one of `faces` (largest first), or None.

        A point means the face around it, the one with the nearest centre where faces overlap; a box the face that
        overlaps it most (IoU) and whose centre lies in it.
        """
        if self.place is None:
            return faces[self.number] if self.number < len(faces) else None
        x0, y0, x1, y1 = self.place
        if (x0, y0) == (x1, y1):
            near = [face for face in faces if _is_inside((x0, y0), _grown(face.box))]
            return min(near, key=lambda face: _distance(_centre(face.box), (x0, y0)), default=None)
        inside = [face for face in faces if _is_inside(_centre(face.box), self.place)]
        return max(inside, key=lambda face: overlap(face.box, (x0, y0, x1, y1)), default=None)

    def problem(self, num_faces: int) -> str:
        """Return a phrase that says that this face is not among the `num_faces` found."""
        found = f"only {num_faces} found" if num_faces else "none found"
        if self.place is None:
            return f"face {self.number} was asked for, but {found} (counted from 0)"
        return f"a face at {self} was asked for, but there is none there; {num_faces} found elsewhere"


LARGEST = FaceChoice()


def parse_face_choice(text: str) -> FaceChoice:
    """Read "1" (the second largest face), "320,180" (a point) or "250,90,390,260" (a box: left, top, right, bottom).

    Raises:
        ValueError: it is none of these.
    """
    wrong = f"face must be a number from 0, a point X,Y or a box X0,Y0,X1,Y1 in pixels, got {text!r}"
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(wrong) from None
    if any(not 0 <= value < 1e6 for value in values):
        raise ValueError(wrong)
    match values:
        case [number] if number == int(number):
            return FaceChoice(int(number))
        case [x, y]:
            return FaceChoice(place=(x, y, x, y))
        case [x0, y0, x1, y1] if x0 < x1 and y0 < y1:
            return FaceChoice(place=(x0, y0, x1, y1))
        case _:
            raise ValueError(wrong)


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _grown(box: Box) -> Box:
    margin = _MARGIN * max(box[2] - box[0], box[3] - box[1])
    return box[0] - margin, box[1] - 2 * margin, box[2] + margin, box[3] + margin


def _is_inside(point: tuple[float, float], box: Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
