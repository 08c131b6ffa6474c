"""Perceptual networks of the content loss: activations of a classifier as a measure of likeness.

The published weights are meant for Caffe networks that see 0..255. The networks here see pictures divided by their
standard deviation; their activations are multiplied by that deviation on the 0..255 scale, so that the published
weights mean the same (with [0, 1] inputs and unscaled activations the content loss vanishes: a known cause of failed
reproductions).
"""

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines import assets
from training.config import PerceptualNet

# ImageNet mean and standard deviation of RGB in [0, 1], as the networks were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
CAFFE_SCALE = 255 * sum(_STD) / 3

# (in, out, kernel, stride, padding) convolves and rectifies, an int max-pools by that window and stride 2, "tap" keeps
# the activations: relu1_1, 2_1, 3_1, 4_1, 5_1 of VGG16, the five ReLUs of AlexNet.
_Step = tuple[int, int, int, int, int] | int | Literal["tap"]
_VGG16: tuple[_Step, ...] = (
    (3, 64, 3, 1, 1), "tap", (64, 64, 3, 1, 1), 2,
    (64, 128, 3, 1, 1), "tap", (128, 128, 3, 1, 1), 2,
    (128, 256, 3, 1, 1), "tap", (256, 256, 3, 1, 1), (256, 256, 3, 1, 1), 2,
    (256, 512, 3, 1, 1), "tap", (512, 512, 3, 1, 1), (512, 512, 3, 1, 1), 2,
    (512, 512, 3, 1, 1), "tap",
)  # fmt: skip
_ALEXNET: tuple[_Step, ...] = (
    (3, 64, 11, 4, 2), "tap", 3,
    (64, 192, 5, 1, 2), "tap", 3,
    (192, 384, 3, 1, 1), "tap",
    (384, 256, 3, 1, 1), "tap",
    (256, 256, 3, 1, 1), "tap",
)  # fmt: skip
_ARCHITECTURES: Mapping[PerceptualNet, tuple[_Step, ...]] = {"vgg16": _VGG16, "alexnet": _ALEXNET}


class PerceptualNetwork(nn.Module):
    """A frozen classifier's activations at five depths, on the scale of a Caffe network that sees 0..255."""

    def __init__(self, architecture: PerceptualNet) -> None:
        super().__init__()
        self.steps = _ARCHITECTURES[architecture]
        self.convs = nn.ModuleList(
            nn.Conv2d(step[0], step[1], step[2], stride=step[3], padding=step[4])
            for step in self.steps
            if isinstance(step, tuple)
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> list[Tensor]:
        """Activations of frames in [-1, 1]."""
        x = ((frames + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
        convs = iter(self.convs)
        taps = []
        for step in self.steps:
            if step == "tap":
                taps.append(x * CAFFE_SCALE)
            elif isinstance(step, int):
                x = F.max_pool2d(x, step, stride=2)
            else:
                x = F.relu(next(convs)(x))
        return taps


def load_perceptual(architecture: PerceptualNet) -> PerceptualNetwork:
    """The network with its ImageNet weights, fetched on first use."""
    network = PerceptualNetwork(architecture)
    weights = load_file(_converted(assets.fetch(f"lpips_{architecture}")))
    for index, conv in enumerate(network.convs):
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight.data.copy_(weights[f"convs.{index}.weight"])
        conv.bias.data.copy_(weights[f"convs.{index}.bias"])
    return network.eval()


def _converted(checkpoint: Path) -> Path:
    """The carrier's pickle of numpy arrays as safetensors beside it, made on first use."""
    converted = checkpoint.with_suffix(".safetensors")
    if not converted.exists():
        tree = read_numpy_pickle(checkpoint.read_bytes())
        # {"VGG16_0": {"Conv_0": {"kernel": (h, w, in, out), "bias": (out,)}, …}, "NetLinLayer_0": …}
        (backbone,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
        tensors = {}
        for name, layer in backbone.items():
            prefix = f"convs.{name.removeprefix('Conv_')}"
            kernel = np.ascontiguousarray(np.transpose(layer["kernel"], (3, 2, 0, 1)))
            tensors[f"{prefix}.weight"] = torch.from_numpy(kernel)
            tensors[f"{prefix}.bias"] = torch.from_numpy(np.array(layer["bias"]))
        temporary = converted.with_name(f"{converted.name}.{os.getpid()}.tmp")
        save_file(tensors, temporary)
        temporary.replace(converted)
    return converted


def read_numpy_pickle(data: bytes) -> dict[str, Any]:
    """Unpickle nested dicts of numpy arrays and nothing else.

    Raises:
        ValueError: the pickle names anything but numpy's own array constructors.
    """
    tree = _NumpyUnpickler(io.BytesIO(data)).load()
    if not isinstance(tree, dict):
        raise ValueError(f"expected a dict of arrays, found {type(tree).__name__}")
    return tree


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(0))[0],
            ("numpy._core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(0))[0],
        }
        if (module, name) not in allowed:
            raise ValueError(f"refusing to unpickle {module}.{name}: only numpy arrays are allowed")
        return allowed[module, name]
