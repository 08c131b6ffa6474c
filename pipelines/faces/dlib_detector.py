"""dlib's 68-point shape predictor on boxes of YuNet; dlib's own detector misses small and tilted faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.faces.boxes import follow_hints
from pipelines.faces.face import Box, Candidates, Face, largest_first, make_face
from pipelines.faces.face_detectors import YuNet
from pipelines.faces.requirements import require_package

# The square that dlib's detector would draw, from YuNet's box and points: its side in units of the box's geometric mean
# side, and how far its centre lies from the box's towards the points' mean, which leads where a turned head looks. A
# least-squares fit to the squares that dlib's detector draws on the demo clips; docs/landmarks.md has the figures.
_SIDE = 0.94
_TOWARDS_POINTS = 0.42


class DlibDetector:
    """dlib's shape predictor (an ensemble of regression trees) trained on iBUG 300-W: non-commercial use only."""

    name = "dlib"
    clips_at_once = 1

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
        """All faces of a picture, largest first."""
        import dlib

        finder, predictor = self._load()
        pixels = np.ascontiguousarray(image)
        faces = []
        for box, points in finder.look(image):
            shape = predictor(pixels, dlib.rectangle(*dlib_square(box, points)))
            faces.append(make_face(np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float32), 1.0))
        return largest_first(faces)

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Per clip, per frame: the faces, largest first. With hints, the face that they show."""
        return [self._follow(clip) for clip in clips]

    def _follow(self, clip: Candidates) -> list[list[Face]]:
        hinted = follow_hints(clip, self.detect) if clip.hints else None
        return [self.detect(frame.image) for frame in clip.frames] if hinted is None else hinted


def dlib_square(box: Box, points: Float[np.ndarray, "5 2"]) -> tuple[int, int, int, int]:
    """The square, in whole pixels, that dlib's detector would draw where YuNet sees `box` and `points`."""
    side = _SIDE * float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    x, y = map(float, middle + _TOWARDS_POINTS * (points.mean(axis=0) - middle))
    return round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)
