"""Face detectors that give the 68 iBUG landmarks: MediaPipe by default, face-alignment behind the same protocol."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.video import Frame

DETECTORS = ("mediapipe", "face-alignment")
FACE_ALIGNMENT_WEIGHTS = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")

# MediaPipe's 478 points -> iBUG 68, left-right symmetric. Differs from hand-marked jaws by 4-5 % of the eye distance.
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


Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one picture: landmarks in its pixels (pixel centres at integers), their bounding box, a score.

    `score` lies in [0, 1]. MediaPipe reports none for a face it returns: such faces have 1.
    """

    landmarks: Float[np.ndarray, "68 2"]
    score: float
    box: tuple[float, float, float, float]


def make_face(landmarks: Float[np.ndarray, "68 2"], score: float) -> Face:
    """A Face with the bounding box of its landmarks."""
    points = np.ascontiguousarray(landmarks, dtype=np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(points, float(score), (float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def face_size(face: Face) -> float:
    """The larger side of the landmarks' box, in pixels."""
    return max(face.box[2] - face.box[0], face.box[3] - face.box[1])


@dataclass(frozen=True, eq=False)
class Candidates:
    """The frames of one clip that a detector looks at, and boxes known beforehand by frame index."""

    frames: Iterable[Frame]
    hints: Mapping[int, tuple[float, float, float, float]]


class Tracker(Protocol):
    """Follows faces through one clip. Use one per clip, frames in order; call `close` at the end."""

    def follow(self, image: UInt8[np.ndarray, "height width 3"], timestamp_us: int) -> list[Face]:
        """The faces of the next frame, largest first."""
        ...

    def close(self) -> None:
        """Free what the tracker holds."""
        ...


class LandmarkDetector(Protocol):
    """Finds faces and their 68 landmarks. `name` is recorded in data sets and checkpoints."""

    name: str

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first; none is an empty list."""
        ...

    clips_at_once: int

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Per clip, per frame: the faces, largest first."""
        ...

    def tracker(self) -> Tracker:
        """A fresh tracker for one clip."""
        ...


def create_detector(
    name: str = "mediapipe", *, device: str = "cpu", max_faces: int = 5, boxes: str = "", weights: str | None = None
) -> LandmarkDetector:
    """A detector by name. Models load on first use.

    Raises:
        ValueError: an unknown name.
    """
    if name == "mediapipe":
        return MediaPipeDetector(max_faces=max_faces)
    if name == "face-alignment":
        return FaceAlignmentDetector(device=device)
    raise ValueError(f"unknown detector {name!r}; choose one of {', '.join(DETECTORS)}")


def resolve_detector(name: str, weights: str | None = None) -> tuple[str, str]:
    return ("mediapipe" if name == "auto" else name), "tmp"


def require_weights(name: str, *, boxes: str = "", weights: str | None = None) -> dict[str, str]:
    """Make sure that a detector's pretrained files are on this machine; returns file name -> sha256.

    Raises:
        ValueError: they are not here and cannot be had; the message says where they belong.
    """
    if name == "mediapipe":
        assets.fetch("face_landmarker")
        return {"face_landmarker": assets.find("face_landmarker").sha256}
    try:
        FaceAlignmentDetector()._load()
    except OSError as error:
        raise ValueError(str(error)) from error
    return {file: assets.sha256_of(_hub_folder() / file) for file in FACE_ALIGNMENT_WEIGHTS}


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


class MediaPipeDetector:
    """MediaPipe's face landmarker (478 points), mapped to 68. 10-12 ms a frame with detection, half of it tracking."""

    name = "mediapipe"

    def __init__(self, max_faces: int = 5) -> None:
        self._max_faces = max_faces
        self._landmarker: Any = None

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first."""
        if self._landmarker is None:
            self._landmarker, _ = _create_landmarker(self, "IMAGE", self._max_faces)
        return _to_faces(self._landmarker.detect(_mediapipe_image(image)), image)

    clips_at_once = 1

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """tmp"""
        out = []
        for clip in clips:
            tracker = self.tracker()
            crowded = False
            seen = []
            try:
                for number, frame in enumerate(clip.frames):
                    seen.append(tracker.follow(frame.image, frame.pts_us))
                    if number % 8 == 0:
                        crowded = crowded or len(self.detect(frame.image)) > 1
            finally:
                tracker.close()
            if crowded:
                seen = [self.detect(frame.image) for frame in clip.frames]
            out.append(seen)
        return out

    def tracker(self) -> Tracker:
        """A tracker of the main face: MediaPipe detects again by itself when it loses it."""
        return _MediaPipeTracker()


class _MediaPipeTracker:
    def __init__(self) -> None:
        self._landmarker, self._closer = _create_landmarker(self, "VIDEO", 1)
        self._last_ms = -1

    def follow(self, image: UInt8[np.ndarray, "height width 3"], timestamp_us: int) -> list[Face]:
        # MediaPipe refuses equal milliseconds; clips above 1000 fps and broken clocks exist.
        self._last_ms = max(timestamp_us // 1000, self._last_ms + 1)
        return _to_faces(self._landmarker.detect_for_video(_mediapipe_image(image), self._last_ms), image)

    def close(self) -> None:
        self._closer()


def _create_landmarker(owner: object, mode: str, max_faces: int) -> tuple[Any, Callable[[], object]]:
    """A landmarker and what closes it; it is closed, too, when `owner` goes."""
    weights = assets.fetch("face_landmarker")
    with _quiet_native_logs():
        try:
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision
        except OSError as error:  # a shared library is missing on a bare system
            raise OSError(f"MediaPipe cannot start ({error}); `sfumato doctor` says what to install") from error
        options = vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=weights.read_bytes()),
            running_mode=getattr(vision.RunningMode, mode),
            num_faces=max_faces,
        )
        landmarker = vision.FaceLandmarker.create_from_options(options)
    # MediaPipe's __del__ closes through a thread that is gone when the interpreter ends (it complains) or when a cycle
    # is collected (it waits for ever). So __del__ finds a close that does nothing, and the real one is called by
    # `close` or when the owner goes, while the landmarker itself is still whole.
    landmarker.close = _do_nothing
    closer = weakref.finalize(owner, vision.FaceLandmarker.close, landmarker)
    closer.atexit = False
    return landmarker, closer


def _do_nothing() -> None:
    pass


def _mediapipe_image(image: UInt8[np.ndarray, "height width 3"]) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))


def _to_faces(result: Any, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
    height, width = image.shape[:2]
    # MediaPipe's unit square spans the picture's outer edges; half a pixel leads to centres at integers.
    scale = np.array([width, height], dtype=np.float32)
    faces = []
    for points in result.face_landmarks:
        unit = np.array([(points[index].x, points[index].y) for index in MEDIAPIPE_TO_IBUG], dtype=np.float32)
        faces.append(make_face(unit * scale - 0.5, 1.0))
    return sorted(faces, key=face_size, reverse=True)


_stderr_lock = threading.Lock()


@contextlib.contextmanager
def _quiet_native_logs() -> Iterator[None]:
    # TensorFlow Lite announces its delegate on file descriptor 2, past Python's logging. Errors still raise.
    # One thread at a time: two that overlap would restore each other's silence.
    with _stderr_lock:
        keep = os.dup(2)
        silent = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(silent, 2)
            yield
        finally:
            os.dup2(keep, 2)
            os.close(keep)
            os.close(silent)


class FaceAlignmentDetector:
    """S3FD + FAN of the face-alignment library.

    Its weights are read from `$TORCH_HOME/hub/checkpoints`, where torch.hub puts them when the machine has access to
    the internet: `s3fd-619a316812.pth` and `2DFAN4-11f355bf06.pth.tar`. Built on first use.
    """

    name = "face-alignment"

    def __init__(self, device: str = "cpu", detector_weights: Path | None = None) -> None:
        self._device = device
        self._detector_weights = detector_weights
        self._network: Any = None

    def _load(self) -> Any:
        if self._network is None:
            import face_alignment

            kwargs = {"path_to_detector": str(self._detector_weights)} if self._detector_weights else None
            try:
                self._network = face_alignment.FaceAlignment(
                    face_alignment.LandmarksType.TWO_D,
                    device=self._device,
                    flip_input=False,
                    face_detector_kwargs=kwargs,
                    compile=False,
                )
            except OSError as error:  # torch.hub could not download them
                raise OSError(
                    f"face-alignment needs {' and '.join(FACE_ALIGNMENT_WEIGHTS)} in {_hub_folder()}: {error}"
                ) from error
        return self._network

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first."""
        return self._landmarks(image, None)

    def _landmarks(self, image: UInt8[np.ndarray, "height width 3"], boxes: list[list[float]] | None) -> list[Face]:
        network = self._load()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every picture without a face
            found = network.get_landmarks_from_image(image, detected_faces=boxes, return_landmark_score=True)
        if found is None or found[0] is None:
            return []
        faces = [
            make_face(np.asarray(points)[:, :2], float(np.clip(np.mean(score), 0, 1)))
            for points, score in zip(found[0], found[1], strict=True)
        ]
        return sorted(faces, key=face_size, reverse=True)

    def tracker(self) -> Tracker:
        """A tracker that detects once and then takes the box from the previous landmarks."""
        return _FaceAlignmentTracker(self)


class _FaceAlignmentTracker:
    min_score = 0.3  # below, the face is taken for lost and S3FD looks again

    def __init__(self, detector: FaceAlignmentDetector) -> None:
        self._detector = detector
        self._box: list[float] | None = None

    def follow(self, image: UInt8[np.ndarray, "height width 3"], timestamp_us: int) -> list[Face]:
        del timestamp_us
        faces = self._detector._landmarks(image, [self._box]) if self._box else []
        if not faces or faces[0].score < self.min_score:
            faces = self._detector.detect(image)
        self._box = _detector_box(faces[0]) if faces else None
        return faces

    def close(self) -> None:
        self._box = None


def _detector_box(face: Face) -> list[float]:
    # S3FD's boxes reach from the chin to above the brows: the landmarks' box with a quarter more at the top.
    x0, y0, x1, y1 = face.box
    return [x0, y0 - 0.25 * (y1 - y0), x1, y1, 1.0]
