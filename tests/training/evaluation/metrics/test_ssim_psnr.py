"""SSIM and PSNR against scikit-image; the mouth's detail by hand."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.evaluation.metrics.ssim_psnr import mouth_detail, psnr, ssim


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Three pictures of 40 x 33 and noisy copies, the last one flat."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (3, 40, 33, 3)).astype(np.uint8)
    truth[2] = 200
    noise = random.normal(0, 20, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def test_ssim_is_that_of_scikit_image(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    frames, truth = pictures
    expected = [
        structural_similarity(
            frame,
            true,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        for frame, true in zip(frames, truth, strict=True)
    ]
    np.testing.assert_allclose(ssim(frames, truth), expected, atol=1e-9)


def test_ssim_of_equal_pictures_is_one_and_small_ones_are_refused(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    _, truth = pictures
    np.testing.assert_allclose(ssim(truth, truth), 1.0)
    with pytest.raises(ValueError, match="pictures of 11 px, got 33x10"):
        ssim(truth[:, :10], truth[:, :10])


def test_psnr_is_that_of_scikit_image(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    frames, truth = pictures
    expected = [peak_signal_noise_ratio(t, f, data_range=255) for f, t in zip(frames, truth, strict=True)]
    np.testing.assert_allclose(psnr(frames, truth), expected)
    assert np.isposinf(psnr(truth, truth)).all()


def test_psnr_by_hand() -> None:
    black = np.zeros((1, 4, 4, 3), np.uint8)
    grey = np.full_like(black, 51)  # a fifth of the peak: 20 log10(5)
    np.testing.assert_allclose(psnr(grey, black), [13.9794], atol=1e-4)


def test_mouth_detail_sees_the_mouth_and_nothing_else() -> None:
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, 48:68] = np.stack([np.linspace(10, 20, 20), np.linspace(20, 24, 20)], axis=1)
    flat = np.full((1, 40, 40, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape).astype(np.uint8)
    elsewhere, mouth = noise.copy(), flat.copy()
    # The box is x 8..22, y 18..26 (a fifth of the width of 10 around the lips); the Laplacian sees one pixel further.
    elsewhere[:, 17:28, 7:24] = 90
    mouth[:, 21, 15] = 190
    assert mouth_detail(flat, landmarks) == 0
    assert mouth_detail(elsewhere, landmarks) == 0
    # A bright point of 100: once -400 and four times 100 in 15 x 9 pixels, whose mean is zero.
    assert mouth_detail(mouth, landmarks) == pytest.approx((400**2 + 4 * 100**2) / (15 * 9))
