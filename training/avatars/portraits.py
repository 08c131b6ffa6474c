"""Pictures of a person to animate: read, face found, cropped as the model was trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from pipelines.faces.crop import crop, crop_affine, to_crop
from pipelines.faces.face import LandmarkDetector
from pipelines.media.images import read_image
from training.config import ModelConfig
from training.images import resize_points


@dataclass(frozen=True)
class Portrait:
    """A whole picture (RGB 0..255), the 68 points of the one face in it that is to move (pixels), and where it looks
    (`pipelines.faces.head_pose.gaze`) if the detector tells."""

    image: UInt8[np.ndarray, "height width 3"]
    landmarks: Float[np.ndarray, "68 2"]
    name: str
    sha256: str
    gaze: Float[np.ndarray, "2 2"] | None = None

    def affine(self, config: ModelConfig, size: int) -> Float64[np.ndarray, "2 3"]:
        """Crop of `size` px -> picture, by the model's own rule."""
        return crop_affine(self.landmarks[None], config.crop, size)

    def crop(
        self, config: ModelConfig, size: int
    ) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "68 2"]]:
        """The crop the networks see and its landmarks in crop pixels."""
        affine = self.affine(config, size)
        return crop(self.image, affine, size), to_crop(self.landmarks, affine)


def find_portraits(paths: Sequence[str], detector: LandmarkDetector, *, face: int | None = None) -> list[Portrait]:
    """Read pictures and find the face in each; the same picture given twice counts once.

    Args:
        face: which face, counted from the largest; by default the largest.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a file is no picture, shows no face, or has fewer faces than asked for; the message names it.
    """
    portraits: dict[str, Portrait] = {}
    for path in paths:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist")
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder, not a picture")
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if digest in portraits:
            continue
        image = read_image(path)
        faces = detector.detect(image)
        if not faces:
            raise ValueError(f"{path}: no face found")
        if not 0 <= (face or 0) < len(faces):
            raise ValueError(f"{path}: face {face} was asked for, but only {len(faces)} found (counted from 0)")
        chosen = faces[face or 0]
        portraits[digest] = Portrait(image, chosen.landmarks, Path(path).name, digest, chosen.gaze)
    return list(portraits.values())


def scaled(portrait: Portrait, max_size: int) -> Portrait:
    """The portrait, shrunk so that its longer side is at most `max_size`."""
    height, width = portrait.image.shape[:2]
    scale = max_size / max(height, width)
    if scale >= 1:
        return portrait
    new = (round(width * scale), round(height * scale))
    image = cv2.resize(portrait.image, new, interpolation=cv2.INTER_AREA)
    ratio = np.array([new[0] / width, new[1] / height])
    return replace(portrait, image=image, landmarks=resize_points(portrait.landmarks, ratio))
