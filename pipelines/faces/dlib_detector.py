"""dlib's 68-point shape predictor with YuNet's face boxes: dlib's own face detector misses small and tilted faces."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.faces.face import Box, Face, largest_first, make_face
from pipelines.faces.face_detectors import LEAST_FACE, WORKING_SIDE, YuNet
from pipelines.faces.requirements import require_package

# The square that dlib's face detector would return, estimated from YuNet's box and five points by least squares on the
# demo clips (figures: docs/explanation/landmarks.md). _SIDE: its side in units of the box's geometric mean side.
# _TOWARDS_POINTS: shift of its centre from the box's centre towards the mean of the points, which moves with yaw.
_SIDE = 0.94
_TOWARDS_POINTS = 0.42


class DlibDetector:
    """dlib's shape predictor (an ensemble of regression trees) trained on iBUG 300-W: non-commercial use only."""

    name = "dlib"
    least_share = LEAST_FACE / WORKING_SIDE

    def __init__(self, max_faces: int = 5) -> None:
        self._max_faces = max_faces
        self._models: tuple[YuNet, Any] | None = None

    def _load(self) -> tuple[YuNet, Any]:
        if self._models is None:
            require_package(self.name)
            import dlib

            paths = assets.fetch_many(("yunet", "dlib_68"))
            self._models = YuNet(paths["yunet"], self._max_faces), dlib.shape_predictor(str(paths["dlib_68"]))
        return self._models

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first."""
        import dlib

        face_detector, predictor = self._load()
        pixels = np.ascontiguousarray(image)
        faces = []
        for box, points in face_detector.find_with_points(image):
            shape = predictor(pixels, dlib.rectangle(*dlib_square(box, points)))
            faces.append(make_face(np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float32), 1.0))
        return largest_first(faces)


def dlib_square(box: Box, points: Float[np.ndarray, "5 2"]) -> tuple[int, int, int, int]:
    """Return the square, in whole pixels, that dlib's detector would return for YuNet's `box` and `points`."""
    side = _SIDE * float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    x, y = map(float, middle + _TOWARDS_POINTS * (points.mean(axis=0) - middle))
    return round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)
