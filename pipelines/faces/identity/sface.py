"""Face recognition with SFace (Zhong et al., arXiv 2205.12010) in OpenCV. CSIM is the cosine of two embeddings.

Values depend on the recogniser: with this one about 0.7 for two pictures of one person and 0.1 for two people; the
authors' threshold is 0.363. They are not comparable with those of other recognisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets

NAME = "SFace"
SIDE = 112
SAME_PERSON = 0.363
"""Least similarity of two pictures of one person: the threshold of the authors."""
_BATCH = 16
# Positions of eyes, tip of the nose and corners of the mouth in the aligned face: ArcFace's template (arXiv
# 1801.07698), which SFace uses too.
# fmt: off
_TEMPLATE = np.array([
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
])
# fmt: on


class FaceRecogniser:
    """Embeds faces as unit vectors of 128 numbers.

    The network loads on first use and runs on the CPU, 12 ms per face."""

    name = NAME

    def __init__(self) -> None:
        self._network: Any = None

    def embed(
        self, images: UInt8[np.ndarray, "batch h w 3"], landmarks: Float[np.ndarray, "batch 68 2"]
    ) -> Float[np.ndarray, "batch 128"]:
        """Return one embedding per image, of the face at the landmarks (pixels)."""
        return self.embed_aligned([align(image, points) for image, points in zip(images, landmarks, strict=True)])

    def embed_aligned(self, faces: Sequence[UInt8[np.ndarray, "112 112 3"]]) -> Float[np.ndarray, "batch 128"]:
        """Return one embedding per face that `align` has cut out.

        Raises:
            AssetError, CacheError: the network's file is not here and cannot be fetched.
        """
        if self._network is None:
            # The file lists its initialisers among the inputs; the actual input is `data`.
            self._network = cv2.dnn.readNetFromONNX(str(assets.fetch("sface")))
        embeddings = [np.zeros((0, 128), np.float32)]
        for first in range(0, len(faces), _BATCH):
            # RGB in 0..255: the network contains its normalisation.
            self._network.setInput(cv2.dnn.blobFromImages(faces[first : first + _BATCH]), "data")
            embeddings.append(self._network.forward().reshape(-1, 128).copy())
        return unit(np.concatenate(embeddings))


def unit(vectors: Float[np.ndarray, "*batch size"]) -> Float[np.ndarray, "*batch size"]:
    """Normalise vectors to length one; zero vectors stay zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def five_points(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch 5 2"]:
    """Return the centres of the eyes, tip of the nose and corners of the mouth, each left one (in the image) first."""
    eyes = [landmarks[..., start : start + 6, :].mean(axis=-2) for start in (36, 42)]
    return np.stack([*eyes, *(landmarks[..., point, :] for point in (30, 48, 54))], axis=-2)


def align(
    image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
) -> UInt8[np.ndarray, "112 112 3"]:
    """Align a face to the template by the least-squares similarity transform of its five points."""
    affine = similarity(five_points(landmarks).astype(np.float64), _TEMPLATE)
    aligned = cv2.warpAffine(image, affine, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(aligned, np.uint8)


def similarity(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "2 3"]:
    """Return the least-squares similarity transform from `source` to `target` (Umeyama, 1991).

    In the plane it is linear in complex numbers: `target = factor * source + shift`.
    """
    flat_source, flat_target = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = flat_source - flat_source.mean()
    variance = max(float((np.abs(centred) ** 2).sum()), 1e-12)
    factor = (np.conj(centred) @ (flat_target - flat_target.mean())) / variance
    shift = flat_target.mean() - factor * flat_source.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
