"""The landmark detectors by name, and the packages and weights they need.

Each detector has its own module, imported when it is created: `mediapipe_detector`, `fan.detector`, `dlib_detector`.
docs/explanation/landmarks.md compares their accuracy and says which to choose.
"""

from __future__ import annotations

from pipelines import assets
from pipelines.assets.weights import hub_folder, is_at_hand, locate, locate_blazeface
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.requirements import BOXES, box_files, require_package
from pipelines.storage import hashing

DETECTORS = ("mediapipe", "face-alignment", "dlib")
MAX_PICTURE_FACES = 32
"""Faces that are told apart in a single picture."""


def create_detector(
    name: str = "mediapipe",
    *,
    device: str = "cpu",
    max_faces: int = 5,
    boxes: str = "yunet",
    weights: str | None = None,
    min_face: float | None = 32.0,
) -> LandmarkDetector:
    """Return a detector by name. Its models load on first use.

    Args:
        name: one of `DETECTORS`.
        device: "cpu" or "cuda" for the networks of face-alignment; the other detectors run on the CPU.
        max_faces: number of faces per image, the largest first.
        boxes: the face detector of face-alignment, one of `BOXES`.
        weights: path or URL of the folder with face-alignment's weights; None: torch hub's folder, the cache, the
            official URL.
        min_face: size in pixels of the smallest face that a second look searches where the first finds none
            (`pipelines.faces.second_look`); None: no second look.

    Raises:
        ValueError: an unknown name or device.
    """
    _check_names(name, boxes)
    if name == "face-alignment":
        from pipelines.faces.fan.detector import FaceAlignmentDetector

        return FaceAlignmentDetector(
            device=device, max_faces=max_faces, boxes=boxes, weights=weights, min_face=min_face
        )
    from pipelines.faces.second_look import FrameByFrame

    if name == "dlib":
        from pipelines.faces.dlib_detector import DlibDetector

        return FrameByFrame(DlibDetector(max_faces), max_faces, min_face)
    from pipelines.faces.mediapipe_detector import MediaPipeDetector

    return FrameByFrame(MediaPipeDetector(max_faces), max_faces, min_face)


def create_picture_detector(name: str = "mediapipe") -> LandmarkDetector:
    """Create a detector for single pictures: of a group, too, in which any face may be asked for.

    Detectors take the faces that they are surest of, which need not be the largest: in films, `max_faces` of
    `create_detector` bounds the time.
    """
    return create_detector(name, max_faces=MAX_PICTURE_FACES)


def resolve_detector(name: str, *, boxes: str = "yunet", weights: str | None = None) -> tuple[str, str]:
    """Return the detector to use, and one line that says why.

    "auto" selects face-alignment if a GPU, its package and its weights are available, else mediapipe.

    Raises:
        ValueError: an unknown name, or weights whose content does not match their names.
    """
    if name != "auto":
        _check_names(name, boxes)
        return name, f"{name}, as asked for"
    _check_names("face-alignment", boxes)
    missing = _missing_for_gpu(boxes, weights)
    if missing:
        return "mediapipe", f"mediapipe: for face-alignment {missing}"
    return "face-alignment", "face-alignment: a CUDA device and its weights are here"


def _missing_for_gpu(boxes: str, folder: str | None) -> str:
    """Return what is missing for face-alignment to run on this machine's GPU; "" when nothing is."""
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
    """Make sure that a detector's package and pretrained files are on this machine; return file name -> sha256.

    They include those of the second look.

    Builds no network. Raises ValueError when something is missing and cannot be fetched; the message names it and where
    it belongs.
    """
    _check_names(name, boxes)
    require_package(name)
    if name == "face-alignment":
        paths = [locate("fan_2d", weights), *box_files(boxes, weights)]
    else:
        needed = {"mediapipe": ("face_landmarker", "yunet"), "dlib": ("dlib_68", "yunet")}[name]
        paths = [*assets.fetch_many(needed).values()]
    return {path.name: hashing.sha256_of(path) for path in paths}


def _check_names(name: str, boxes: str) -> None:
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose one of {', '.join(DETECTORS)}")
    if boxes not in BOXES:
        raise ValueError(f"unknown boxes {boxes!r}; choose one of {', '.join(BOXES)}")
