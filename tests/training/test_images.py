import cv2
import numpy as np
import pytest
import torch

from pipelines.faces.crop import crop
from training.images import crop_batch


def _photograph(seed: int) -> np.ndarray:
    """A smooth picture of 90 x 70 pixels: what is read between pixels hardly depends on the filter."""
    noise = np.random.default_rng(seed).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), np.uint8)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.4, 2.0, 3.3])
def test_a_batch_is_cropped_as_the_pipeline_crops_a_picture(scale: float) -> None:
    images = np.stack([_photograph(seed) for seed in range(2)])
    # The second reaches over the picture's edge.
    affines = np.array([[[scale, 0, 3.25], [0, scale, 7.5]], [[scale, 0, -9.0], [0, scale, 40.0]]])
    cropped = crop_batch(torch.from_numpy(images), affines, 20).numpy()
    assert cropped.shape == (2, 20, 20, 3)
    for ours, image, affine in zip(cropped, images, affines, strict=True):
        difference = np.abs(ours.astype(int) - crop(image, affine, 20))
        assert difference.mean() < 0.6
        assert difference.max() <= 4


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    image = torch.from_numpy(_photograph(0)[:70])[None]
    whole = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
    assert torch.equal(crop_batch(image, whole, 70), image)
