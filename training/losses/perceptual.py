"""Perceptual networks of the content loss: classifiers whose activations are compared.

The published loss uses two Caffe networks, whose input is BGR in 0..255 minus a mean (`vgg19_vggface`). No package
registry has their weights, so the default is torchvision's VGG16, trained on ImageNet (`vgg16`), whose input is divided
by its standard deviation. Its activations are multiplied by that deviation on the 0..255 scale, so that the published
loss weights apply; with [0, 1] inputs and unscaled activations the content loss vanishes, a known cause of failed
reproductions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.assets import weights
from training.config import PerceptualNet, TrainConfig
from training.losses.perceptual_files import PerceptualFiles
from training.losses.perceptual_weights import TORCHVISION_VGG19, packaged_weights, pick_layer, read_state_dict

# ImageNet mean and standard deviation of RGB in [0, 1], with which torchvision's networks were trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
CAFFE_SCALE = 255 * sum(_STD) / 3
# Means of the Caffe networks, BGR in 0..255.
_VGG19_MEAN = (103.939, 116.779, 123.680)
_VGGFACE_MEAN = (93.594, 104.7624, 129.1863)

# (in, out, kernel, stride, padding) is a convolution and ReLU, an int a max-pooling of that window and stride 2, "tap"
# stores the activations.
_Step = tuple[int, int, int, int, int] | int | Literal["tap"]


def _vgg(*depths: int) -> tuple[_Step, ...]:
    """Return a VGG with `depths` 3x3 convolutions per block, up to relu5_1; relu1_1, 2_1, 3_1, 4_1, 5_1 are tapped."""
    steps: list[_Step] = []
    channels = 3
    for block, depth in enumerate((*depths, 1)):
        for number in range(depth):
            wider = min(64 * 2**block, 512)
            steps.append((channels, wider, 3, 1, 1))
            channels = wider
            if number == 0:
                steps.append("tap")
        if block < 4:
            steps.append(2)
    return tuple(steps)


_VGG16, _VGG19 = _vgg(2, 2, 3, 3), _vgg(2, 2, 4, 4)
# The five ReLUs.
_ALEXNET: tuple[_Step, ...] = (
    (3, 64, 11, 4, 2), "tap", 3,
    (64, 192, 5, 1, 2), "tap", 3,
    (192, 384, 3, 1, 1), "tap",
    (384, 256, 3, 1, 1), "tap",
    (256, 256, 3, 1, 1), "tap",
)  # fmt: skip


@dataclass(frozen=True)
class _Input:
    """A classifier's input, `(x - mean) / std` of x in 0..255, and the factor applied to its activations."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool
    scale: float


_TORCHVISION = _Input(
    (255 * _MEAN[0], 255 * _MEAN[1], 255 * _MEAN[2]),
    (255 * _STD[0], 255 * _STD[1], 255 * _STD[2]),
    bgr=False,
    scale=CAFFE_SCALE,
)


def _caffe(mean: tuple[float, float, float]) -> _Input:
    return _Input(mean, (1.0, 1.0, 1.0), bgr=True, scale=1.0)


# The classifiers of each perceptual network, by loss term.
_CLASSIFIERS: Mapping[PerceptualNet, Mapping[str, tuple[tuple[_Step, ...], _Input]]] = {
    "vgg16": {"content": (_VGG16, _TORCHVISION)},
    "alexnet": {"content": (_ALEXNET, _TORCHVISION)},
    "vgg19_vggface": {"content": (_VGG19, _caffe(_VGG19_MEAN)), "content_face": (_VGG16, _caffe(_VGGFACE_MEAN))},
}


class Classifier(nn.Module):
    """A frozen classifier's activations at five depths, on the scale of a Caffe network with 0..255 inputs."""

    def __init__(self, steps: tuple[_Step, ...], expected: _Input) -> None:
        super().__init__()
        self.steps, self.expected = steps, expected
        self.convs = nn.ModuleList(
            nn.Conv2d(step[0], step[1], step[2], stride=step[3], padding=step[4])
            for step in self.steps
            if isinstance(step, tuple)
        )
        self.register_buffer("mean", torch.tensor(expected.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(expected.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> list[Tensor]:
        """Return the activations of frames in [-1, 1], RGB."""
        x = (frames + 1) * 127.5
        x = ((x.flip(1) if self.expected.bgr else x) - self.get_buffer("mean")) / self.get_buffer("std")
        convs = iter(self.convs)
        taps = []
        for step in self.steps:
            if step == "tap":
                taps.append(x * self.expected.scale if self.expected.scale != 1 else x)
            elif isinstance(step, int):
                x = F.max_pool2d(x, step, stride=2)
            else:
                x = F.relu(next(convs)(x), inplace=True)  # a convolution needs its input for gradients, not its output
        return taps

    def layer_names(self) -> list[tuple[str, ...]]:
        """Return the names each convolution may have in files: torchvision's `features.N`, or Caffe's block and
        number."""
        names: list[tuple[str, ...]] = []
        place, block, number = 0, 1, 1
        for step in self.steps:
            if isinstance(step, tuple):
                names.append((f"features.{place}", f"conv{block}_{number}", f"conv_{block}_{number}"))
                place, number = place + 2, number + 1
            elif isinstance(step, int):
                place, block, number = place + 1, block + 1, 1
        return names


class PerceptualNetwork(nn.Module):
    """The classifiers of a content loss: one, or the two of the published loss."""

    def __init__(self, architecture: PerceptualNet) -> None:
        super().__init__()
        self.classifiers = nn.ModuleDict(
            {term: Classifier(steps, expected) for term, (steps, expected) in _CLASSIFIERS[architecture].items()}
        )

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> dict[str, list[Tensor]]:
        """Return activations of frames in [-1, 1] by loss term: `content` and, if there is one, `content_face`."""
        return {term: classifier(frames) for term, classifier in self.classifiers.items()}

    def classifier(self, term: str) -> Classifier:
        classifier = self.classifiers[term]
        assert isinstance(classifier, Classifier)
        return classifier


def load_perceptual(config: TrainConfig, files: PerceptualFiles | None = None) -> PerceptualNetwork:
    """Load a configuration's perceptual network; weights are downloaded on first use.

    Args:
        files: where the weights of `vgg19_vggface` are; not needed if the cache holds those that the config names.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: files are needed and none are given; or one is damaged, of another network, or its sha256 differs
            from the config's.
        OSError: a file cannot be downloaded.
    """
    network = PerceptualNetwork(config.perceptual)
    if config.perceptual == "vgg19_vggface":
        for term, name, url, sha256 in (
            ("content", "VGG19", None if files is None else files.vgg19, config.vgg19_sha256),
            ("content_face", "VGGFace", None if files is None else files.vggface, config.vggface_sha256),
        ):
            _load_caffe(network.classifier(term), name, url, sha256)
    else:
        state = packaged_weights(config.perceptual)
        for index, conv in enumerate(network.classifier("content").convs):
            _fill(conv, state[f"convs.{index}.weight"], state[f"convs.{index}.bias"])
    return network.eval()


def _load_caffe(classifier: Classifier, name: str, url: str | None, sha256: str | None) -> None:
    if url is None:
        cached = sha256 and weights.cached(sha256)
        if not cached:
            named = f" of sha256 {sha256[:12]}…" if sha256 else ""
            raise ValueError(f"the weights of {name}{named} are needed: name them with --{name.lower()} PATH_OR_URL")
        url = str(cached)
    path, found = weights.fetch(url, sha256)
    if name == "VGG19" and found.startswith(TORCHVISION_VGG19):
        raise ValueError(f"{url} is torchvision's VGG19; the published loss is that of Caffe's")
    state = read_state_dict(path, url)
    for names, conv in zip(classifier.layer_names(), classifier.convs, strict=True):
        shape = tuple(conv.get_parameter("weight").shape)
        _fill(conv, *pick_layer(state, names, shape, name, url))


def _fill(conv: nn.Module, weight: Tensor, bias: Tensor) -> None:
    conv.get_parameter("weight").data.copy_(weight)
    conv.get_parameter("bias").data.copy_(bias)
