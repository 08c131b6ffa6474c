"""The networks that metrics use: a landmark detector, a face recogniser, LPIPS and the Fréchet distance's features.

Frames are measured as 8-bit images, as a viewer sees them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from pipelines.faces.face import LandmarkDetector
from pipelines.faces.identity.sface import FaceRecogniser
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.frechet import FeatureNetwork
from training.evaluation.metrics.lpips import Lpips, lpips
from training.evaluation.metrics.result_cache import ResultCache
from training.images import resize_points, to_tensor

# Detector and recogniser need faces of about 100 pixels: smaller frames are enlarged to this side.
_MIN_SIDE = 256
_BATCH = 16
_CPU_BATCH = 4  # whose activations fit a CPU's cache better; the results are the same
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
    """Applies the networks to frames. Results are cached by content: the frames of still baselines repeat, and so do
    the true frames and some shots for each T."""

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
        self._batch_size = _CPU_BATCH if device.type == "cpu" else _BATCH
        self._detected = ResultCache[_DetectedFace](_CACHE_SIZE)
        self._embeddings = ResultCache[np.ndarray](_CACHE_SIZE)
        self._features = ResultCache[np.ndarray](_CACHE_SIZE)
        self._distances = ResultCache[np.floating](_CACHE_SIZE)

    def detect(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> DetectedFaces:
        """Detect and recognise the face in each frame."""
        detected = self._detected.get([frames], lambda new: [self._detect(frames[index]) for index in new])
        nowhere = np.zeros((68, 2), np.float32)
        return DetectedFaces(
            found=np.array([one.landmarks is not None for one in detected], bool),
            landmarks=np.stack([nowhere if one.landmarks is None else one.landmarks for one in detected]),
            embeddings=np.stack([one.embedding for one in detected]),
        )

    def _detect(self, frame: UInt8[np.ndarray, "size size 3"]) -> _DetectedFace:
        large = _enlarged(frame)
        faces = self.detector.detect(large)
        if not faces:
            return _DetectedFace(None, np.zeros(128, np.float32))
        embedding = self.recogniser.embed(large[None], faces[0].landmarks[None])[0]
        return _DetectedFace(resize_points(faces[0].landmarks, frame.shape[0] / large.shape[0]), embedding)

    def embed(self, faces: Faces) -> Float[np.ndarray, "frames 128"]:
        """Return embeddings of real frames, with the data set's landmarks."""

        def compute(new: list[int]) -> Float[np.ndarray, "new 128"]:
            large = np.stack([_enlarged(faces.images[index]) for index in new])
            return self.recogniser.embed(large, resize_points(faces.landmarks[new], large.shape[1] / faces.size))

        return np.stack(self._embeddings.get([faces.images, faces.landmarks], compute))

    @torch.inference_mode()
    def features(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> Float[np.ndarray, "frames features"]:
        """Return the feature vectors of the Fréchet distance."""

        def compute(new: list[int]) -> Float[np.ndarray, "new features"]:
            batches = (to_tensor(frames[batch], self.device) for batch in self._batches(new))
            return np.concatenate([self.feature_network.extract(batch).cpu().numpy() for batch in batches])

        return np.stack(self._features.get([frames], compute))

    def lpips(
        self, frames: UInt8[np.ndarray, "frames size size 3"], truth: UInt8[np.ndarray, "frames size size 3"]
    ) -> Float[np.ndarray, "frames"]:
        """Return the LPIPS of each frame."""

        def compute(new: list[int]) -> Float[np.ndarray, "new"]:
            pairs = ((frames[batch], truth[batch]) for batch in self._batches(new))
            return np.concatenate([lpips(self._lpips, *pair, self.device) for pair in pairs])

        return np.array(self._distances.get([frames, truth], compute))

    def _batches(self, indices: list[int]) -> list[list[int]]:
        starts = range(0, len(indices), self._batch_size)
        return [indices[first : first + self._batch_size] for first in starts]


def _enlarged(frame: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    if frame.shape[0] >= _MIN_SIDE:
        return frame
    return np.asarray(cv2.resize(frame, (_MIN_SIDE, _MIN_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
