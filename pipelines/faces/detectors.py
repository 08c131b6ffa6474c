"""What a landmark detector is: faces with the 68 iBUG points, whoever finds them; and which detectors there are.

Each detector has a module of its own, imported when it is made: `mediapipe_faces`, `face_alignment_faces`,
`dlib_faces`. docs/landmarks.md says how far they lie from hand-marked points and which to choose.
"""

from __future__ import annotations

from pipelines import assets
from pipelines.assets.weights import hub_folder, is_at_hand, locate, locate_blazeface
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.requirements import BOXES, box_files, require_package
from pipelines.storage import hashing

DETECTORS = ("mediapipe", "face-alignment", "dlib")


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
        from pipelines.faces.face_alignment_detector import FaceAlignmentDetector

        return FaceAlignmentDetector(device=device, max_faces=max_faces, boxes=boxes, weights=weights)
    if name == "dlib":
        from pipelines.faces.dlib_detector import DlibDetector

        return DlibDetector(max_faces=max_faces)
    from pipelines.faces.mediapipe_detector import MediaPipeDetector

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
    return {path.name: hashing.sha256_of(path) for path in paths}


def _check_names(name: str, boxes: str) -> None:
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose one of {', '.join(DETECTORS)}")
    if boxes not in BOXES:
        raise ValueError(f"unknown boxes {boxes!r}; choose one of {', '.join(BOXES)}")
