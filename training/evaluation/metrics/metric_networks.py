"""What frames are measured with: a landmark detector, a recogniser, LPIPS and the features of the Fréchet distance.

Frames are judged as pictures of 8 bits, as a viewer gets them.
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

# Detector and recogniser want a face of about a hundred pixels; smaller frames are enlarged for them.
_LOOK_SIDE = 256
_BATCH = 16
_REMEMBERED = 4096


@dataclass(frozen=True)
class DetectedFaces:
    """What is seen in frames. Where no face is found, landmarks and embeddings are zero."""

    found: Bool[np.ndarray, "frames"]
    landmarks: Float[np.ndarray, "frames 68 2"]
    """In pixels of the frames."""
    embeddings: Float[np.ndarray, "frames 128"]


@dataclass(frozen=True)
class _DetectedFace:
    """The same for one frame."""

    landmarks: Float[np.ndarray, "68 2"] | None
    embedding: Float[np.ndarray, "128"]


class MetricNetworks:
    """Measures frames. Equal pictures, such as those of a static portrait, are looked at once."""

    def __init__(
        self,
        detector: LandmarkDetector,
        recogniser: FaceRecogniser,
        distance: Lpips,
        features: FeatureNetwork,
        device: torch.device,
    ) -> None:
        self.detector, self.recogniser, self.feature_network, self.device = detector, recogniser, features, device
        self._distance = distance.to(device)
        self._seen: OrderedDict[bytes, _DetectedFace] = OrderedDict()

    def look(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> DetectedFaces:
        """Find the face in each frame and recognise it."""
        seen = [self._look_at(frame) for frame in frames]
        nowhere = np.zeros((68, 2), np.float32)
        return DetectedFaces(
            found=np.array([one.landmarks is not None for one in seen], bool),
            landmarks=np.stack([nowhere if one.landmarks is None else one.landmarks for one in seen]),
            embeddings=np.stack([one.embedding for one in seen]),
        )

    def _look_at(self, frame: UInt8[np.ndarray, "size size 3"]) -> _DetectedFace:
        key = hashlib.sha256(frame.tobytes()).digest()
        if key not in self._seen:
            large = _enlarged(frame)
            scale = large.shape[0] / frame.shape[0]
            faces = self.detector.detect(large)
            if faces:
                embedding = self.recogniser.embed(large[None], faces[0].landmarks[None])[0]
                seen = _DetectedFace(resize_points(faces[0].landmarks, 1 / scale), embedding)
            else:
                seen = _DetectedFace(None, np.zeros(128, np.float32))
            self._seen[key] = seen
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return self._seen[key]

    def recognise(self, faces: Faces) -> Float[np.ndarray, "frames 128"]:
        """Embeddings of real frames, whose faces lie where the data set says."""
        large = np.stack([_enlarged(image) for image in faces.images])
        return self.recogniser.embed(large, resize_points(faces.landmarks, large.shape[1] / faces.size))

    @torch.inference_mode()
    def features(self, frames: UInt8[np.ndarray, "frames size size 3"]) -> Float[np.ndarray, "frames features"]:
        """The vectors that the Fréchet distance compares."""
        batches = [frames[first : first + _BATCH] for first in range(0, len(frames), _BATCH)]
        extract = self.feature_network.extract
        return np.concatenate([extract(to_tensor(batch, self.device)).cpu().numpy() for batch in batches])

    def distance(
        self, frames: UInt8[np.ndarray, "frames size size 3"], truth: UInt8[np.ndarray, "frames size size 3"]
    ) -> Float[np.ndarray, "frames"]:
        """LPIPS, frame by frame."""
        starts = range(0, len(frames), _BATCH)
        pairs = [(frames[first : first + _BATCH], truth[first : first + _BATCH]) for first in starts]
        return np.concatenate([lpips(self._distance, *pair, self.device) for pair in pairs])


def _enlarged(frame: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    if frame.shape[0] >= _LOOK_SIDE:
        return frame
    return np.asarray(cv2.resize(frame, (_LOOK_SIDE, _LOOK_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
