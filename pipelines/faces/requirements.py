"""The packages and pretrained files that a detector needs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipelines import assets
from pipelines.assets.weights import locate, locate_blazeface

BOXES = ("yunet", "s3fd", "blazeface")
"""Names of the face detectors that face-alignment can use."""

_PACKAGES = {"face-alignment": ("face_alignment", "pipelines"), "dlib": ("dlib", "dlib")}  # module, extra


def box_files(boxes: str, weights: str | None) -> tuple[Path, ...]:
    """Return the weight files of a face detector of face-alignment. Raises ValueError as `require_weights`."""
    if boxes == "blazeface":
        return locate_blazeface(weights)
    return (locate("s3fd", weights) if boxes == "s3fd" else assets.fetch("yunet"),)


def require_package(name: str) -> None:
    """Raise ValueError with the install command if the package of a detector is missing."""
    module, extra = _PACKAGES.get(name, ("mediapipe", ""))
    if find_spec(module) is None:
        raise ValueError(f"the detector {name} needs a package that is not here: pip install '.[{extra}]'")
