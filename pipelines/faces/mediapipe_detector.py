"""MediaPipe's face landmarker, mapped to the 68 points: the default detector, which needs only a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from pipelines import assets
from pipelines.faces.face import Face, largest_first, make_face
from pipelines.faces.head_pose import NUM_LANDMARKS, gaze
from pipelines.faces.mediapipe_tasks import mediapipe_image, open_task

# MediaPipe's 478 points -> iBUG 68, left-right symmetric. Jaws differ from hand-marked ones by 4-5 % of eye distance.
# fmt: off
MEDIAPIPE_TO_IBUG = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lip
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lip
])
# fmt: on
_IRISES = (468, 473)  # iris centres of the eye at iBUG's points 36-41, and of the other


class MediaPipeDetector:
    """MediaPipe's face landmarker (478 points), mapped to 68. It takes 10 ms of one core per frame of any size.

    It detects frame by frame. MediaPipe's own video tracking is not faster, smooths over time (blinks lose depth, quick
    head motion lags) and follows one face only, whereas several faces have to be noticed.
    """

    name = "mediapipe"
    least_share = 0.125

    def __init__(self, max_faces: int = 5) -> None:
        self._max_faces = max_faces
        self._landmarker: Any = None

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first."""
        if self._landmarker is None:
            self._landmarker = _create_landmarker(self, self._max_faces)
        return _to_faces(self._landmarker.detect(mediapipe_image(image)), image)


class BlendshapeReader:
    """Reads MediaPipe's 52 blendshape scores of the largest face, with its 68 points, frame by frame."""

    def __init__(self) -> None:
        self._landmarker: Any = None

    def read(self, image: UInt8[np.ndarray, "height width 3"]) -> tuple[Mapping[str, float], Face] | None:
        """Return name -> score in [0, 1] (`_neutral` and 51 ARKit blendshapes), and the face; None without a face."""
        if self._landmarker is None:
            self._landmarker = _create_landmarker(self, 1, blendshapes=True)
        result = self._landmarker.detect(mediapipe_image(image))
        if not result.face_landmarks:
            return None
        return {shape.category_name: shape.score for shape in result.face_blendshapes[0]}, _to_faces(result, image)[0]


class MeshReader:
    """Reads MediaPipe's 478 points of the largest face: its mesh of 468 and ten of the irises."""

    def __init__(self) -> None:
        self._landmarker: Any = None

    def read(self, image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "478 2"] | None:
        """Return the points in pixels; None without a face. The 68 landmarks are those at `MEDIAPIPE_TO_IBUG`."""
        if self._landmarker is None:
            self._landmarker = _create_landmarker(self, 1)
        result = self._landmarker.detect(mediapipe_image(image))
        return _in_pixels(result.face_landmarks[0], image) if result.face_landmarks else None


def _create_landmarker(owner: object, max_faces: int, *, blendshapes: bool = False) -> Any:
    """Create a landmarker for single images; it is closed when `owner` is garbage-collected."""

    def create(vision: Any, base: Any) -> Any:
        options = vision.FaceLandmarkerOptions(
            base_options=base,
            running_mode=vision.RunningMode.IMAGE,
            num_faces=max_faces,
            output_face_blendshapes=blendshapes,
        )
        return vision.FaceLandmarker.create_from_options(options)

    return open_task(owner, assets.fetch("face_landmarker"), create)


def _to_faces(result: Any, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
    chosen = ([points[index] for index in (*MEDIAPIPE_TO_IBUG, *_IRISES)] for points in result.face_landmarks)
    return largest_first([_to_face(_in_pixels(points, image)) for points in chosen])


def _to_face(points: Float32[np.ndarray, "70 2"]) -> Face:
    landmarks, irises = points[:NUM_LANDMARKS], points[NUM_LANDMARKS:]
    return make_face(landmarks, 1.0, gaze(landmarks, irises))


def _in_pixels(points: Sequence[Any], image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "points 2"]:
    height, width = image.shape[:2]
    unit = np.array([(point.x, point.y) for point in points], dtype=np.float32)
    # MediaPipe's unit square spans the image's outer edges; subtracting half a pixel puts centres at integers.
    return np.asarray(unit * np.array([width, height], dtype=np.float32) - 0.5)
