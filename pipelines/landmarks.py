"""What a landmark detector is: faces with the 68 iBUG points, whoever finds them; and which detectors there are.

Each detector has a module of its own, imported when it is made: `mediapipe_faces`, `face_alignment_faces`,
`dlib_faces`. docs/landmarks.md says how far they lie from hand-marked points and which to choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets, video
from pipelines.assets.weights import hub_folder, is_at_hand, locate, locate_blazeface

DETECTORS = ("mediapipe", "face-alignment", "dlib")
BOXES = ("yunet", "s3fd", "blazeface")

_PACKAGES = {"face-alignment": ("face_alignment", "pipelines"), "dlib": ("dlib", "dlib")}  # module, extra

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one picture: landmarks in its pixels (pixel centres at integers), their bounding box, a score.

    `score` lies in [0, 1]. MediaPipe and dlib report none for a face they return: such faces have 1. `gaze` is where
    the irises lie in the eyes (`pipelines.head.gaze`); MediaPipe alone sees them.
    """

    landmarks: Float[np.ndarray, "68 2"]
    score: float
    box: Box
    gaze: Float[np.ndarray, "2 2"] | None = None


def make_face(landmarks: Float[np.ndarray, "68 2"], score: float, gaze: Float[np.ndarray, "2 2"] | None = None) -> Face:
    """A Face with the bounding box of its landmarks."""
    points = np.ascontiguousarray(landmarks, dtype=np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(points, float(score), (float(low[0]), float(low[1]), float(high[0]), float(high[1])), gaze)


def face_size(face: Face) -> float:
    """The larger side of the landmarks' box, in pixels."""
    return max(face.box[2] - face.box[0], face.box[3] - face.box[1])


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """The faces by `face_size`, falling; equal ones as they came."""
    return sorted(faces, key=face_size, reverse=True)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The frames of one clip that a detector looks at.

    `frames` come in the clip's order and are iterated more than once: frames too large to hold are decoded again.
    `hints` holds the face's box where it is known beforehand, by the frame's index; {} when nothing is known.
    """

    frames: Iterable[video.Frame]
    hints: Mapping[int, Box]


class LandmarkDetector(Protocol):
    """Finds faces and their 68 landmarks. `name` is recorded in data sets and checkpoints.

    `clips_at_once` is how many clips `follow` wants in one call. What it finds in a clip may depend on the clips
    beside it, by rounding, but never on calls before.
    """

    name: str
    clips_at_once: int

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first; none is an empty list."""
        ...

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Per clip, per frame: the faces, largest first. With hints, the face that they show.

        Hints that show no face in most frames, or lie outside the picture, are passed over: published boxes may
        belong to another cut of the video.
        """
        ...


def create_detector(
    name: str = "mediapipe",
    *,
    device: str = "cpu",
    max_faces: int = 5,
    boxes: str = "yunet",
    weights: str | None = None,
) -> LandmarkDetector:
    """A detector by name. Models load on first use.

    Args:
        name: one of `DETECTORS`.
        device: where the networks of face-alignment run, "cpu" or "cuda"; the others run on the CPU.
        max_faces: the largest so many of a picture's faces.
        boxes: one of `BOXES`, which finds the faces for face-alignment.
        weights: path or URL of the folder that holds face-alignment's weights; None: torch hub's, the cache, their
            official place.

    Raises:
        ValueError: an unknown name or device.
    """
    _check_names(name, boxes)
    if name == "face-alignment":
        from pipelines.face_alignment_faces import FaceAlignmentDetector

        return FaceAlignmentDetector(device=device, max_faces=max_faces, boxes=boxes, weights=weights)
    if name == "dlib":
        from pipelines.dlib_faces import DlibDetector

        return DlibDetector(max_faces=max_faces)
    from pipelines.mediapipe_faces import MediaPipeDetector

    return MediaPipeDetector(max_faces=max_faces)


def resolve_detector(name: str, *, boxes: str = "yunet", weights: str | None = None) -> tuple[str, str]:
    """The detector to use, and one line that says why. "auto" takes face-alignment where it can run at once on a GPU.

    Raises:
        ValueError: an unknown name, or weights that are other files than their names say.
    """
    if name != "auto":
        _check_names(name, boxes)
        return name, f"{name}, as asked for"
    _check_names("face-alignment", boxes)
    lacking = _what_lacks(boxes, weights)
    if lacking:
        return "mediapipe", f"mediapipe: for face-alignment {lacking}"
    return "face-alignment", "face-alignment: a CUDA device and its weights are here"


def _what_lacks(boxes: str, folder: str | None) -> str:
    """What keeps face-alignment from running on this machine's GPU; empty when nothing does."""
    import torch

    if not torch.cuda.is_available():
        return "there is no CUDA device"
    try:
        require_package("face-alignment")
        if boxes == "blazeface":
            locate_blazeface(folder)
    except ValueError as error:
        return str(error)
    for name in ("fan_2d", *(("s3fd",) if boxes == "s3fd" else ())):
        if not is_at_hand(name, folder):
            return f"{assets.find(name).file} is not in {folder or hub_folder()}"
    return ""


def require_weights(name: str, *, boxes: str = "yunet", weights: str | None = None) -> dict[str, str]:
    """Make sure that a detector's package and pretrained files are on this machine; returns file name -> sha256.

    No network is built. Raises ValueError when something is not here and cannot be had; the message names it and
    where it belongs.
    """
    _check_names(name, boxes)
    require_package(name)
    if name == "face-alignment":
        paths = [locate("fan_2d", weights), *box_files(boxes, weights)]
    else:
        needed = {"mediapipe": ("face_landmarker",), "dlib": ("dlib_68", "yunet")}[name]
        paths = [*assets.fetch_many(needed).values()]
    return {path.name: assets.sha256_of(path) for path in paths}


def box_files(boxes: str, weights: str | None) -> tuple[Path, ...]:
    """The files of what finds the boxes for face-alignment. Raises ValueError as `require_weights`."""
    if boxes == "blazeface":
        return locate_blazeface(weights)
    return (locate("s3fd", weights) if boxes == "s3fd" else assets.fetch("yunet"),)


def require_package(name: str) -> None:
    """Raises ValueError saying how to install the package of a detector that is missing here."""
    module, extra = _PACKAGES.get(name, ("mediapipe", ""))
    if find_spec(module) is None:
        raise ValueError(f"the detector {name} needs a package that is not here: pip install '.[{extra}]'")


def _check_names(name: str, boxes: str) -> None:
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose one of {', '.join(DETECTORS)}")
    if boxes not in BOXES:
        raise ValueError(f"unknown boxes {boxes!r}; choose one of {', '.join(BOXES)}")
