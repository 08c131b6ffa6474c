"""LPIPS, the perceptual distance of Zhang et al. (arXiv 1801.03924), with version 0.1 of the authors' weights."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines import assets
from training.images import to_tensor
from training.losses.perceptual_weights import read_numpy_pickle

Backbone = Literal["alexnet", "vgg16"]

# The authors' normalisation of inputs in [-1, 1]: ImageNet's mean and standard deviation in that range.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPS = 1e-10
# (out, kernel, stride, padding) is a convolution and ReLU, an int a max-pooling of that window and stride 2, "tap"
# compares activations.
_Step = tuple[int, int, int, int] | int | Literal["tap"]
_ALEXNET: tuple[_Step, ...] = (
    (64, 11, 4, 2), "tap", 3, (192, 5, 1, 2), "tap", 3,
    (384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap",
)  # fmt: skip
_VGG16: tuple[_Step, ...] = (
    (64, 3, 1, 1), (64, 3, 1, 1), "tap", 2,
    (128, 3, 1, 1), (128, 3, 1, 1), "tap", 2,
    *((256, 3, 1, 1),) * 3, "tap", 2,
    *((512, 3, 1, 1),) * 3, "tap", 2,
    *((512, 3, 1, 1),) * 3, "tap",
)  # fmt: skip
_STEPS: dict[Backbone, tuple[_Step, ...]] = {"alexnet": _ALEXNET, "vgg16": _VGG16}


class Lpips(nn.Module):
    """Distance between pairs of frames in [-1, 1]: 0 for equal frames, about 0.7 for unrelated ones; lower is better.

    Unlike in the content loss, VGG16's activations are compared after the last convolution of each stage.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.steps = _STEPS[backbone]
        channels, convs, taps = 3, [], []
        for step in self.steps:
            if isinstance(step, tuple):
                out, kernel, stride, padding = step
                convs.append(nn.Conv2d(channels, out, kernel, stride, padding))
                channels = out
            elif step == "tap":
                taps.append(channels)
        self.convs = nn.ModuleList(convs)
        self.heads = nn.ParameterList(torch.zeros(size) for size in taps)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(
        self, frames: Float[Tensor, "batch 3 h w"], truth: Float[Tensor, "batch 3 h w"]
    ) -> Float[Tensor, "batch"]:
        distance = frames.new_zeros(len(frames))
        for head, ours, true in zip(self.heads, self._taps(frames), self._taps(truth), strict=True):
            difference = (_unit(ours) - _unit(true)).square()
            distance = distance + torch.einsum("bchw,c->bhw", difference, head).mean(dim=(1, 2))
        return distance

    def _taps(self, frames: Float[Tensor, "batch 3 h w"]) -> list[Tensor]:
        x = (frames - self.get_buffer("shift")) / self.get_buffer("scale")
        convs, taps = iter(self.convs), []
        for step in self.steps:
            if isinstance(step, tuple):
                x = F.relu(next(convs)(x), inplace=True)
            elif step == "tap":
                taps.append(x)
            else:
                x = F.max_pool2d(x, step, stride=2)
        return taps


def _unit(x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
    """Normalise the activations at each position to length one."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + _EPS)


def load_lpips(backbone: Backbone) -> Lpips:
    """Load the network with ImageNet weights and the authors' heads, which are downloaded on first use."""
    network = Lpips(backbone)
    tree = read_numpy_pickle(assets.fetch(f"lpips_{backbone}").read_bytes())
    # {"VGG16_0": {"Conv_0": {"kernel": (h, w, in, out), "bias": (out,)}, …}, "NetLinLayer_0": …}
    (layers,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
    for index, conv in enumerate(network.convs):
        layer = layers[f"Conv_{index}"]
        conv.get_parameter("weight").copy_(torch.from_numpy(np.array(np.transpose(layer["kernel"], (3, 2, 0, 1)))))
        conv.get_parameter("bias").copy_(torch.from_numpy(np.array(layer["bias"])))
    for index, head in enumerate(network.heads):
        head.copy_(torch.from_numpy(np.array(tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]).reshape(-1)))
    return network.eval()


@torch.inference_mode()
def lpips(
    network: Lpips,
    frames: UInt8[np.ndarray, "batch h w 3"],
    truth: UInt8[np.ndarray, "batch h w 3"],
    device: torch.device,
) -> Float64[np.ndarray, "batch"]:
    """Return the distance of each pair of frames in 0..255. `network` must be on `device`."""
    values: np.ndarray = network(to_tensor(frames, device), to_tensor(truth, device)).double().cpu().numpy()
    return values
