"""Portraits: pictures of a person to animate, with the landmarks of the face, and their crop for a model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from pipelines import storage
from pipelines.faces.crop import crop, crop_affine, to_crop
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice
from pipelines.media.images import read_image
from training.config import ModelConfig
from training.images import resize_points


@dataclass(frozen=True)
class Portrait:
    """A picture (RGB 0..255), the 68 landmarks of the face to animate (pixels), and its gaze
    (`pipelines.faces.head_pose.gaze`) if the detector provides it."""

    image: UInt8[np.ndarray, "height width 3"]
    landmarks: Float[np.ndarray, "68 2"]
    name: str
    sha256: str
    gaze: Float[np.ndarray, "2 2"] | None = None

    def affine(self, config: ModelConfig, size: int) -> Float64[np.ndarray, "2 3"]:
        """Return the transform from a crop of `size` px to the picture, by the model's crop rule."""
        return crop_affine(self.landmarks[None], config.crop, size)

    def crop(
        self, config: ModelConfig, size: int
    ) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "68 2"]]:
        """Return the networks' crop at `size` px, and its landmarks in crop pixels."""
        affine = self.affine(config, size)
        return crop(self.image, affine, size), to_crop(self.landmarks, affine)


def find_portraits(urls: Sequence[str], detector: LandmarkDetector, *, face: FaceChoice = LARGEST) -> list[Portrait]:
    """Read pictures and detect the face in each. Duplicates (by content) are dropped.

    Args:
        urls: paths or URLs.
        face: which face of each picture.

    Raises:
        FileNotFoundError: a picture does not exist.
        ValueError: a file is no picture, shows no face, or not the face asked for; the message names the file.
    """
    portraits: dict[str, Portrait] = {}
    for url in urls:
        storage.check_file(url)
        data = storage.read_bytes(url)
        digest = hashlib.sha256(data).hexdigest()
        if digest in portraits:
            continue
        image = read_image(url, data)
        faces = detector.detect(image)
        if not faces:
            raise ValueError(f"{url}: no face found")
        chosen = face.find(faces)
        if chosen is None:
            raise ValueError(f"{url}: {face.problem(len(faces))}")
        portraits[digest] = Portrait(image, chosen.landmarks, storage.name(url), digest, chosen.gaze)
    return list(portraits.values())


def shrink_portrait(portrait: Portrait, max_size: int | None) -> Portrait:
    """Shrink a portrait so that its longer side is at most `max_size` pixels; None: any."""
    height, width = portrait.image.shape[:2]
    scale = (max_size or max(height, width)) / max(height, width)
    if scale >= 1:
        return portrait
    new = (round(width * scale), round(height * scale))
    image = cv2.resize(portrait.image, new, interpolation=cv2.INTER_AREA)
    ratio = np.array([new[0] / width, new[1] / height])
    return replace(portrait, image=image, landmarks=resize_points(portrait.landmarks, ratio))
