"""Errors of a detector's 68 points against known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from pipelines.faces.face import Face

INNER = slice(17, 68)  # all but the jaw, which detectors define differently
PARTS: Mapping[str, slice] = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "outer lips": slice(48, 60),
    "inner lips": slice(60, 68),
}
"""iBUG's points by the part of the face."""


def eye_distance(points: Float[np.ndarray, "68 2"]) -> float:
    """Return the distance between the outer corners of the eyes, in pixels."""
    return float(np.linalg.norm(points[36] - points[45]))


def error_of(landmarks: Float[np.ndarray, "68 2"], points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " points"]:
    """Return the distance of each landmark from the known one, in units of the eye distance."""
    return np.asarray(np.linalg.norm(landmarks - points, axis=1) / eye_distance(points))


def shows_face(face: Face, points: Float[np.ndarray, "68 2"]) -> bool:
    """Whether the detection is the known face: their centres are less than an eye distance apart."""
    apart = face.landmarks.mean(axis=0) - points.mean(axis=0)
    return float(np.linalg.norm(apart)) < eye_distance(points)


def percent(errors: Sequence[Float[np.ndarray, " points"]], points: slice = slice(None)) -> str:
    """Return the mean over faces and these points, for a table; "" without a face."""
    return f"{100 * _mean(errors, points):.1f} %" if errors else ""


def per_mille(errors: Sequence[Float[np.ndarray, " points"]], points: slice = slice(None)) -> int:
    """Return the mean over faces and these points in thousandths, as an integer."""
    return round(1000 * _mean(errors, points))


def _mean(errors: Sequence[Float[np.ndarray, " points"]], points: slice) -> float:
    return float(np.mean([error[points] for error in errors]))
