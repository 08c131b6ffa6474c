"""A video's numbers with a detector and a recogniser that are told what to see."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipelines.faces.face import Candidates, Face, make_face
from pipelines.faces.identity.sface import FaceRecogniser
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.frame_metrics import Reference, reconstruction_metrics
from training.evaluation.metrics.frechet import FeatureNetwork
from training.evaluation.metrics.lpips import Lpips
from training.evaluation.metrics.metric_networks import MetricNetworks

CPU = torch.device("cpu")


class BrightFaces:
    """Sees a face, always at the same place, where a picture is not black."""

    name = "bright"
    clips_at_once = 1

    def __init__(self, landmarks: np.ndarray) -> None:
        self.landmarks, self.calls = landmarks, 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.calls += 1
        return [make_face(self.landmarks, 1.0)] if image.max() > 0 else []

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        raise AssertionError("single pictures only")


class Shades(FaceRecogniser):
    """Grey value 100 is one person, any other is another."""

    def embed(self, images: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(images), 128), np.float32)
        vectors[np.arange(len(images)), [0 if abs(int(image[0, 0, 0]) - 100) < 3 else 1 for image in images]] = 1
        return vectors


@pytest.fixture
def wanted() -> np.ndarray:
    points = np.random.default_rng(0).uniform(20, 44, (68, 2)).astype(np.float32)
    points[36], points[45] = (16, 30), (48, 30)  # 32 px between the eyes' corners
    return points


def test_numbers_are_of_frames_with_a_face_and_the_others_are_counted(wanted: np.ndarray) -> None:
    # Frames of 64 px are enlarged four times for the detector: x -> 4 (x + 0.5) - 0.5. It sees the face 3.2 px too low.
    seen = (wanted + np.array([0.5, 0.5 + 3.2])) * 4 - 0.5
    detector = BrightFaces(seen.astype(np.float32))
    network = FeatureNetwork("mean", lambda frames: frames.mean(dim=(2, 3)))
    networks = MetricNetworks(detector, Shades(), Lpips("alexnet"), network, CPU)
    truth = Faces(np.full((4, 64, 64, 3), 100, np.uint8), np.repeat(wanted[None], 4, axis=0))
    drawn = truth.images.copy()
    drawn[1], drawn[2:] = 150, 0
    values = reconstruction_metrics(networks, drawn, Reference.of(networks, truth, truth.first(2)))
    assert values["without_face"] == 2
    assert values["landmark_error"] == pytest.approx(10, rel=1e-4)  # 3.2 of 32 px
    assert values["csim_source"] == values["csim_truth"] == pytest.approx(0.5)  # one is the person, one another
    assert values["lpips"] == 0  # heads of zero weigh nothing
    assert detector.calls == 3  # equal frames are detected once
    np.testing.assert_allclose(networks.features(drawn)[0], 100 / 127.5 - 1, rtol=1e-5)


def test_without_any_face_there_is_nothing_to_measure(wanted: np.ndarray) -> None:
    networks = MetricNetworks(
        BrightFaces(wanted), Shades(), Lpips("alexnet"), FeatureNetwork("none", torch.flatten), CPU
    )
    truth = Faces(np.full((2, 64, 64, 3), 100, np.uint8), np.repeat(wanted[None], 2, axis=0))
    values = reconstruction_metrics(networks, np.zeros_like(truth.images), Reference.of(networks, truth, truth))
    assert values["without_face"] == 2
    assert all(np.isnan(values[key]) for key in ("csim_source", "landmark_error", "head_motion", "mouth_sharpness"))
    assert np.isfinite(values["ssim"])


def test_equal_frames_go_through_each_network_once(wanted: np.ndarray) -> None:
    measured: list[int] = []

    def extract(frames: torch.Tensor) -> torch.Tensor:
        measured.append(len(frames))
        return frames.mean(dim=(2, 3))

    network = Lpips("alexnet")
    network.forward = lambda frames, truth: measured.append(-len(frames)) or frames.mean(dim=(1, 2, 3))  # type: ignore[method-assign]
    networks = MetricNetworks(BrightFaces(wanted), Shades(), network, FeatureNetwork("mean", extract), CPU)
    truth = np.stack([np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 60, 10)])
    still = np.repeat(truth[:1], 6, axis=0)
    assert len(networks.features(still)) == 6
    assert len(networks.features(truth)) == 6
    assert measured == [1, 4, 1]  # the first of `truth` is known
    networks.lpips(still, truth)
    networks.lpips(still, truth)
    assert measured[3:] == [-4, -2]  # all pairs differ
