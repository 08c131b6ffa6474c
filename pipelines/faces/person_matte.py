"""Mattes: how much of each pixel of a picture shows a person, so that what stands behind one can be left standing."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.faces.mediapipe_tasks import mediapipe_image, open_task

WEIGHTS = "selfie_segmenter"
# Of the larger side of the landmarks' box: by how much mattes are widened, for hair and shadows at the outline.
_MARGIN = 0.025
# The segmenter looks elsewhere, or sees nobody (a drawing, a sculpture), where less of the face than this is a person.
_LEAST_OF_FACE = 0.5


class PersonSegmenter:
    """MediaPipe's selfie segmenter (256 px inside): 5 ms of one core a picture. Threads may share one."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def matte(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "height width"]:
        """255 where there is a person, 0 where there is none, and between along the outline.

        Everybody in the picture counts. The face that `landmarks` (pixels) mark always does; where the segmenter does
        not take it for a person's, all of the picture does.

        Raises:
            AssetError, OSError: the segmenter's file cannot be had, or MediaPipe cannot start.
        """
        person = np.rint(255 * self._segment(image)).astype(np.uint8)
        face = np.zeros_like(person)
        cv2.fillConvexPoly(face, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 255)
        if not face.any() or person[face > 0].mean() < 255 * _LEAST_OF_FACE:
            return np.full_like(person, 255)
        radius = round(_MARGIN * float(np.ptp(landmarks, axis=0).max()))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        widened: np.ndarray = cv2.dilate(np.maximum(person, face), disc)
        return widened

    def _segment(self, image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
        if not hasattr(self._of_thread, "task"):
            self._of_thread.task = open_task(self._of_thread, assets.fetch(WEIGHTS), _create_segmenter)
        (confidence,) = self._of_thread.task.segment(mediapipe_image(image)).confidence_masks
        # A view of memory that goes with the result.
        mask: np.ndarray = confidence.numpy_view().reshape(image.shape[:2]).copy()
        return mask


def _create_segmenter(vision: Any, base: Any) -> Any:
    options = vision.ImageSegmenterOptions(base_options=base, output_confidence_masks=True)
    return vision.ImageSegmenter.create_from_options(options)


def resize_matte(matte: UInt8[np.ndarray, "side side"], size: int) -> UInt8[np.ndarray, "size size"]:
    """The mean of areas when shrinking, linear when growing."""
    how = cv2.INTER_AREA if size < len(matte) else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(matte, (size, size), interpolation=how)
    return resized
