"""Perceptual networks of the content loss: activations of a classifier as a measure of likeness.

The published terms are those of two Caffe networks that see 0..255 in BGR order, less a mean (`vgg19_vggface`). Their
weights are on no package registry, so that the default is VGG16 as trained on ImageNet by torchvision (`vgg16`), which
sees pictures divided by their standard deviation; its activations are multiplied by that deviation on the 0..255 scale,
so that the published weights mean the same (with [0, 1] inputs and unscaled activations the content loss vanishes: a
known cause of failed reproductions).
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
from training.losses.perceptual_weights import TORCHVISION_VGG19, carried_weights, pick_layer, read_state_dict

# ImageNet mean and standard deviation of RGB in [0, 1], as torchvision's networks were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
CAFFE_SCALE = 255 * sum(_STD) / 3
# Means of the Caffe networks, BGR in 0..255.
_VGG19_MEAN = (103.939, 116.779, 123.680)
_VGGFACE_MEAN = (93.594, 104.7624, 129.1863)

# (in, out, kernel, stride, padding) convolves and rectifies, an int max-pools by that window and stride 2, "tap" keeps
# the activations.
_Step = tuple[int, int, int, int, int] | int | Literal["tap"]


def _vgg(*depths: int) -> tuple[_Step, ...]:
    """So many 3x3 convolutions a block, up to the first of the fifth; relu1_1, 2_1, 3_1, 4_1, 5_1 are tapped."""
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
    """What a classifier sees: pictures of 0..255, less `mean`, over `std`; and how loud its activations then are."""

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


# The loss term that each classifier serves.
_CLASSIFIERS: Mapping[PerceptualNet, Mapping[str, tuple[tuple[_Step, ...], _Input]]] = {
    "vgg16": {"content": (_VGG16, _TORCHVISION)},
    "alexnet": {"content": (_ALEXNET, _TORCHVISION)},
    "vgg19_vggface": {"content": (_VGG19, _caffe(_VGG19_MEAN)), "content_face": (_VGG16, _caffe(_VGGFACE_MEAN))},
}


class Classifier(nn.Module):
    """A frozen classifier's activations at five depths, on the scale of a Caffe network that sees 0..255."""

    def __init__(self, steps: tuple[_Step, ...], sees: _Input) -> None:
        super().__init__()
        self.steps, self.sees = steps, sees
        self.convs = nn.ModuleList(
            nn.Conv2d(step[0], step[1], step[2], stride=step[3], padding=step[4])
            for step in self.steps
            if isinstance(step, tuple)
        )
        self.register_buffer("mean", torch.tensor(sees.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(sees.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> list[Tensor]:
        """Activations of frames in [-1, 1], RGB."""
        x = (frames + 1) * 127.5
        x = ((x.flip(1) if self.sees.bgr else x) - self.get_buffer("mean")) / self.get_buffer("std")
        convs = iter(self.convs)
        taps = []
        for step in self.steps:
            if step == "tap":
                taps.append(x * self.sees.scale if self.sees.scale != 1 else x)
            elif isinstance(step, int):
                x = F.max_pool2d(x, step, stride=2)
            else:
                x = F.relu(next(convs)(x))
        return taps

    def layer_names(self) -> list[tuple[str, ...]]:
        """What files call each convolution: its place in torchvision's `features`, or Caffe's block and number."""
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
    """The classifiers of a content loss: one, or the published two."""

    def __init__(self, architecture: PerceptualNet) -> None:
        super().__init__()
        self.classifiers = nn.ModuleDict(
            {term: Classifier(steps, sees) for term, (steps, sees) in _CLASSIFIERS[architecture].items()}
        )

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> dict[str, list[Tensor]]:
        """Activations of frames in [-1, 1], by the loss term they serve: `content`, and `content_face` if there is."""
        return {term: classifier(frames) for term, classifier in self.classifiers.items()}

    def classifier(self, term: str) -> Classifier:
        classifier = self.classifiers[term]
        assert isinstance(classifier, Classifier)
        return classifier


def load_perceptual(config: TrainConfig, files: PerceptualFiles | None = None) -> PerceptualNetwork:
    """The network that a configuration asks for with its weights, which are fetched on first use.

    Args:
        files: where the weights of `vgg19_vggface` lie; not needed where the cache holds those that the config names.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: no files are given and they are needed; or one is damaged, of another network, or has another
            sha256 than the config names.
        OSError: one cannot be downloaded.
    """
    network = PerceptualNetwork(config.perceptual)
    if config.perceptual == "vgg19_vggface":
        for term, what, url, sha256 in (
            ("content", "VGG19", None if files is None else files.vgg19, config.vgg19_sha256),
            ("content_face", "VGGFace", None if files is None else files.vggface, config.vggface_sha256),
        ):
            _load_caffe(network.classifier(term), what, url, sha256)
    else:
        state = carried_weights(config.perceptual)
        for index, conv in enumerate(network.classifier("content").convs):
            _fill(conv, state[f"convs.{index}.weight"], state[f"convs.{index}.bias"])
    return network.eval()


def _load_caffe(classifier: Classifier, what: str, url: str | None, sha256: str | None) -> None:
    if url is None:
        cached = sha256 and weights.cached(sha256)
        if not cached:
            named = f" of sha256 {sha256[:12]}…" if sha256 else ""
            raise ValueError(f"the weights of {what}{named} are needed: name them with --{what.lower()} PATH_OR_URL")
        url = str(cached)
    path, found = weights.fetch(url, sha256)
    if what == "VGG19" and found.startswith(TORCHVISION_VGG19):
        raise ValueError(f"{url} is torchvision's VGG19; the published loss is that of Caffe's")
    state = read_state_dict(path, url)
    for names, conv in zip(classifier.layer_names(), classifier.convs, strict=True):
        shape = tuple(conv.get_parameter("weight").shape)
        _fill(conv, *pick_layer(state, names, shape, what, url))


def _fill(conv: nn.Module, weight: Tensor, bias: Tensor) -> None:
    conv.get_parameter("weight").data.copy_(weight)
    conv.get_parameter("bias").data.copy_(bias)
