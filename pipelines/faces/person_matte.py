"""Person mattes: the share of each pixel that shows a person, to keep the background still while the person moves."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.faces.mediapipe_tasks import mediapipe_image, open_task

WEIGHTS = "selfie_segmenter"
# Mattes are dilated by this share of the larger side of the landmarks' box, to include hair and shadows at the outline.
_MARGIN = 0.025
# If less of the face than this is segmented as a person, the segmenter has failed, as on a drawing or a sculpture.
_MIN_FACE_SHARE = 0.5


class PersonSegmenter:
    """MediaPipe's selfie segmenter (256 px input): 5 ms of one core per image. Threads may share an instance."""

    def __init__(self) -> None:
        # By thread. Not `threading.local`: while one is freed that holds a MediaPipe task, a thread of MediaPipe's may
        # end, and CPython 3.11, which is walking its list of threads, crashes.
        self._tasks: dict[int, Any] = {}

    def matte(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "height width"]:
        """Return a matte: 255 on persons, 0 on the background, and values in between along the outline.

        It covers all persons in the image, and always the face at `landmarks` (pixels). If the segmenter does not
        recognise that face as a person, the whole image is 255.

        Raises:
            AssetError, OSError: the segmenter's file cannot be fetched, or MediaPipe cannot start.
        """
        person = np.rint(255 * self._segment(image)).astype(np.uint8)
        face = np.zeros_like(person)
        cv2.fillConvexPoly(face, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 255)
        if not face.any() or person[face > 0].mean() < 255 * _MIN_FACE_SHARE:
            return np.full_like(person, 255)
        radius = round(_MARGIN * float(np.ptp(landmarks, axis=0).max()))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        widened: np.ndarray = cv2.dilate(np.maximum(person, face), disc)
        return widened

    def _segment(self, image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
        thread = threading.get_ident()
        if thread not in self._tasks:
            self._tasks[thread] = open_task(self, assets.fetch(WEIGHTS), _create_segmenter)
        (confidence,) = self._tasks[thread].segment(mediapipe_image(image)).confidence_masks
        # Copy: the view's memory is freed with the result.
        mask: np.ndarray = confidence.numpy_view().reshape(image.shape[:2]).copy()
        return mask


def _create_segmenter(vision: Any, base: Any) -> Any:
    options = vision.ImageSegmenterOptions(base_options=base, output_confidence_masks=True)
    return vision.ImageSegmenter.create_from_options(options)


def resize_matte(matte: UInt8[np.ndarray, "side side"], size: int) -> UInt8[np.ndarray, "size size"]:
    """Resize a matte: area averaging when shrinking, bilinear when enlarging."""
    how = cv2.INTER_AREA if size < len(matte) else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(matte, (size, size), interpolation=how)
    return resized
