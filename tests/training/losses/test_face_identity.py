"""Embeddings against dlib's own recogniser, alignment against scikit-image."""

import cv2
import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform, warp
from torch import Tensor

from pipelines import assets
from pipelines.media.images import read_image
from training.losses import terms
from training.losses.face_identity import SIDE, FaceRecogniser, load_recogniser

# Outer and inner corner of the eye at the right, of that at the left, and the nose's base, in pixels of an aligned
# face: what dlib.get_face_chip makes of its mean face with a padding of 0.25.
_FIVE = [45, 42, 36, 39, 33]
_PLACES = np.array([(110.46, 45.85), (89.11, 47.40), (36.56, 45.87), (57.91, 47.41), (73.51, 87.28)])


@pytest.fixture(scope="module")
def recogniser() -> FaceRecogniser:
    return load_recogniser()


def _landmarks(places: np.ndarray, size: int) -> Tensor:
    landmarks = torch.zeros(1, 68, 2)
    landmarks[0, _FIVE] = torch.from_numpy((places + 0.5) * (2 / size) - 1).float()
    return landmarks


def _aligned_picture(asset: str, top: int, left: int) -> Tensor:
    """A part of a picture that is taken for an aligned face."""
    image = cv2.imread(str(assets.fetch(asset)), cv2.IMREAD_COLOR_RGB)[top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1


def test_embeddings_are_dlibs(recogniser: FaceRecogniser) -> None:
    """dlib 20.0.1, face_recognition_model_v1 on the same 150 x 150 pixels."""
    landmarks = _landmarks(_PLACES, SIDE)
    woman, man = (
        recogniser(_aligned_picture(*place), landmarks)[-1][0].numpy()
        for place in (("astronaut", 40, 150), ("takeo_picture", 0, 0))
    )
    np.testing.assert_allclose(woman[:5], [-0.045, 0.053, -0.013, 0.069, -0.140], atol=6e-4)
    np.testing.assert_allclose(man[:5], [-0.155, 0.116, 0.084, -0.004, -0.036], atol=6e-4)
    assert np.linalg.norm(woman - man) == pytest.approx(0.6544, abs=1e-3)


def test_faces_are_aligned_as_scikit_image_does_it(recogniser: FaceRecogniser) -> None:
    size = 200
    picture = read_image(str(assets.fetch("astronaut")))[:size, 100 : 100 + size]
    places = (
        _PLACES @ np.array([[0.55, 0.2], [-0.2, 0.55]]) + [70.0, 30.0] + np.random.default_rng(0).normal(size=(5, 2))
    )
    where = SimilarityTransform.from_estimate(_PLACES, places)
    expected = warp(picture / 127.5 - 1, where, output_shape=(SIDE, SIDE), order=1, mode="edge")
    frame = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    aligned = recogniser.align(frame, _landmarks(places, size))[0].permute(1, 2, 0).numpy()
    assert np.abs(aligned - expected).mean() < 2e-3


def test_the_loss_is_nothing_for_the_same_face_and_more_for_another_than_for_a_blurred_one(
    recogniser: FaceRecogniser,
) -> None:
    landmarks = _landmarks(_PLACES, SIDE)
    face, other = _aligned_picture("astronaut", 40, 150), _aligned_picture("takeo_picture", 0, 0)
    blurred = torch.nn.functional.avg_pool2d(face, 3, stride=1, padding=1)
    real = recogniser(face, landmarks)
    assert float(terms.identity(real, real)) == 0
    near, far = (float(terms.identity(recogniser(x, landmarks), real)) for x in (blurred, other))
    assert 0 < near < 0.5 * far


def test_its_gradient_reaches_the_face_and_not_the_network(recogniser: FaceRecogniser) -> None:
    landmarks = _landmarks(_PLACES, SIDE)
    frame = _aligned_picture("astronaut", 40, 150).requires_grad_()
    terms.identity(recogniser(frame, landmarks), [x + 1 for x in recogniser(frame.detach(), landmarks)]).backward()
    assert frame.grad is not None
    assert float(frame.grad.abs().sum()) > 0
    assert not any(tensor.requires_grad for tensor in recogniser.buffers())
