"""The networks that metrics use: a landmark detector, a face recogniser, LPIPS and the Fréchet distance's features.

Frames are measured as 8-bit images, as a viewer sees them.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from pipelines.faces.face import LandmarkDetector
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.frechet import FeatureNetwork
from training.evaluation.metrics.lpips import Lpips, lpips
from training.evaluation.metrics.sface import FaceRecogniser
from training.images import resize_points, to_tensor

# Detector and recogniser need faces of about 100 pixels: smaller frames are enlarged to this side.
_MIN_SIDE = 256
_BATCH = 16
_CACHE_SIZE = 4096


@dataclass(frozen=True)
class DetectedFaces:
    """Faces detected in frames. Landmarks and embeddings are zero where none was found."""

    found: Bool[np.ndarray, "frames"]
    landmarks: Float[np.ndarray, "frames 68 2"]
    """In pixels of the frames."""
    embeddings: Float[np.ndarray, "frames 128"]


@dataclass(frozen=True)
class _DetectedFace:
    """The face detected in one frame."""

    landmarks: Float[np.ndarray, "68 2"] | None
    embedding: Float[np.ndarray, "128"]


class MetricNetworks:
    """Applies the networks to frames. Detections are cached by content, for frames that repeat (static portraits)."""

    def __init__(
        self,
        detector: LandmarkDetector,
        recogniser: FaceRecogniser,
        lpips_network: Lpips,
        features: FeatureNetwork,
        device: torch.device,
    ) -> None:
        self.detector, self.recogniser, self.feature_network, self.device = detector, recogniser, features, device
        self._lpips = lpips_network.to(device)
        self._cache: OrderedDict[bytes, _DetectedFace] = OrderedDict()

    def detect(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> DetectedFaces:
        """Detect and recognise the face in each frame."""
        detected = [self._detect(frame) for frame in frames]
        nowhere = np.zeros((68, 2), np.float32)
        return DetectedFaces(
            found=np.array([one.landmarks is not None for one in detected], bool),
            landmarks=np.stack([nowhere if one.landmarks is None else one.landmarks for one in detected]),
            embeddings=np.stack([one.embedding for one in detected]),
        )

    def _detect(self, frame: UInt8[np.ndarray, "size size 3"]) -> _DetectedFace:
        key = hashlib.sha256(frame.tobytes()).digest()
        if key not in self._cache:
            large = _enlarged(frame)
            scale = large.shape[0] / frame.shape[0]
            faces = self.detector.detect(large)
            if faces:
                embedding = self.recogniser.embed(large[None], faces[0].landmarks[None])[0]
                detected = _DetectedFace(resize_points(faces[0].landmarks, 1 / scale), embedding)
            else:
                detected = _DetectedFace(None, np.zeros(128, np.float32))
            self._cache[key] = detected
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return self._cache[key]

    def embed(self, faces: Faces) -> Float[np.ndarray, "frames 128"]:
        """Return embeddings of real frames, with the data set's landmarks."""
        large = np.stack([_enlarged(image) for image in faces.images])
        return self.recogniser.embed(large, resize_points(faces.landmarks, large.shape[1] / faces.size))

    @torch.inference_mode()
    def features(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> Float[np.ndarray, "frames features"]:
        """Return the feature vectors of the Fréchet distance."""
        batches = [frames[first : first + _BATCH] for first in range(0, len(frames), _BATCH)]
        extract = self.feature_network.extract
        return np.concatenate([extract(to_tensor(batch, self.device)).cpu().numpy() for batch in batches])

    def lpips(
        self, frames: UInt8[np.ndarray, "frames size size 3"], truth: UInt8[np.ndarray, "frames size size 3"]
    ) -> Float[np.ndarray, "frames"]:
        """Return the LPIPS of each frame."""
        starts = range(0, len(frames), _BATCH)
        pairs = [(frames[first : first + _BATCH], truth[first : first + _BATCH]) for first in starts]
        return np.concatenate([lpips(self._lpips, *pair, self.device) for pair in pairs])


def _enlarged(frame: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    if frame.shape[0] >= _MIN_SIDE:
        return frame
    return np.asarray(cv2.resize(frame, (_MIN_SIDE, _MIN_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
