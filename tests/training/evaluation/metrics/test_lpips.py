"""LPIPS: its properties, and with the real weights a value computed again in numpy."""

import cv2
import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.media.images import decode_jpeg, encode_jpeg, read_image
from training.evaluation.metrics.lpips import Lpips, load_lpips, lpips
from training.losses.perceptual_weights import read_numpy_pickle

CPU = torch.device("cpu")


@pytest.fixture
def astronaut() -> np.ndarray:
    """Her face, 64 x 64."""
    image = read_image(str(assets.fetch("astronaut")))[20:260, 100:340]
    return np.asarray(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA))[None]


def test_distance_weighs_the_difference_of_unit_activations() -> None:
    """One convolution that copies red, one head: by hand on two pictures of two flat halves."""
    network = Lpips("alexnet")
    for conv in network.convs:
        conv.get_parameter("weight").zero_()
        conv.get_parameter("bias").fill_(1.0)
    first = network.convs[0]
    first.get_parameter("bias").zero_()
    first.get_parameter("weight")[0, 0, 5, 5] = 0.458  # relu(red - shift): channel 0
    first.get_parameter("bias")[1] = 0.75
    network.heads[0][:2] = torch.tensor([2.0, 3.0])
    network.heads[1].fill_(7.0)  # deeper layers see the same in both: they add nothing
    frames, truth = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    frames[:, 0] = 1.0 - 0.030  # activations (1, 0.75), unit (0.8, 0.6)
    truth[:, 0] = -0.5  # (0, 0.75), unit (0, 1)
    assert network(frames, truth).item() == pytest.approx(2 * 0.8**2 + 3 * 0.4**2, rel=1e-5)


@pytest.mark.parametrize(("backbone", "parameters"), [("alexnet", 2_469_696 + 1152), ("vgg16", 14_714_688 + 1472)])
def test_backbones_have_their_published_size(backbone: str, parameters: int) -> None:
    """The convolutions of torchvision's networks and one weight a channel at each of five depths."""
    assert sum(p.numel() for p in Lpips(backbone).parameters()) == parameters


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["alexnet", "vgg16"])
def test_equal_pictures_have_no_distance_and_worse_ones_more(backbone: str, astronaut: np.ndarray) -> None:
    network = load_lpips(backbone)
    jpegs = [decode_jpeg(encode_jpeg(astronaut[0], quality))[None] for quality in (90, 30, 5)]
    assert lpips(network, astronaut, astronaut, CPU) == 0
    slight, medium, strong = (float(lpips(network, picture, astronaut, CPU)[0]) for picture in jpegs)
    assert 0 < slight < medium < strong < 1
    there, back = (lpips(network, *pair, CPU) for pair in ((jpegs[1], astronaut), (astronaut, jpegs[1])))
    np.testing.assert_allclose(there, back, rtol=1e-5)


@pytest.mark.slow
def test_distance_with_the_real_weights_is_numpys(astronaut: np.ndarray) -> None:
    blurred = cv2.GaussianBlur(astronaut[0], (0, 0), 2.0)[None]
    value = float(lpips(load_lpips("alexnet"), blurred, astronaut, CPU)[0])
    assert value == pytest.approx(_in_numpy(blurred[0], astronaut[0]), rel=1e-4)
    assert value == pytest.approx(0.4626, abs=5e-4)


def _in_numpy(frame: np.ndarray, truth: np.ndarray) -> float:
    """AlexNet in the package's layout (height, width, in, out), in double precision."""
    tree = read_numpy_pickle(assets.fetch("lpips_alexnet").read_bytes())
    total = 0.0
    activations = [(picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] for picture in (frame, truth)]
    for layer, (stride, padding, pool) in enumerate([(4, 2, 0), (1, 2, 3), (1, 1, 3), (1, 1, 0), (1, 1, 0)]):
        weights = tree["AlexNet_0"][f"Conv_{layer}"]
        kernel = weights["kernel"].astype(np.float64)
        for which in (0, 1):
            x = activations[which]
            if pool:
                x = np.lib.stride_tricks.sliding_window_view(x, (pool, pool), axis=(0, 1))[::2, ::2].max(axis=(3, 4))
            x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
            activations[which] = np.maximum(np.einsum("ijchw,hwco->ijo", windows, kernel) + weights["bias"], 0)
        ours, true = (x / (np.linalg.norm(x, axis=2, keepdims=True) + 1e-10) for x in activations)
        head = tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"].reshape(-1).astype(np.float64)
        total += float((np.square(ours - true) @ head).mean())
    return total
