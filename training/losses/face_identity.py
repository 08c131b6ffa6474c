"""The face recogniser of the identity loss: dlib's residual network of 29 convolutions (Davis King, 2017; public
domain).

The paper uses a VGG16 trained on faces instead, which no package registry has. The metric CSIM uses another
recogniser, so that it does not measure what was trained.
"""

import math
import re
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines import assets

WEIGHTS = "dlib_recogniser"
SIDE = 150
_MEAN = (122.782, 117.001, 104.298)  # RGB, 0..255
# dlib's five points (outer and inner corner of each eye, the eye at the image's right first, and the base of the nose),
# and their positions in its aligned face, which has a margin of a quarter around it.
_FIVE = [45, 42, 36, 39, 33]
_MARGIN = 0.25
_TEMPLATE = ((0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278))
# Residual blocks of each stage; True: the block halves height and width.
_STAGES = ((False,) * 3, (True, False, False, False), (True, False, False), (True, False, False, True))
# In dlib's file the name of a layer precedes its parameters.
_LAYER = re.compile(rb"\x05con_4|\x07affine_|\x04fc_2")


class FaceRecogniser(nn.Module):
    """A frozen network from faces to the activations of four stages and an embedding."""

    def __init__(self, weights: Iterator[Float[Tensor, "..."]]) -> None:
        """Build the network from the weights of all layers, in forward order."""
        super().__init__()
        self.stem = _Convolution(weights, 3, stride=2, padding=0)
        channels, stages = self.stem.channels, []
        for stage in _STAGES:
            blocks = []
            for halves in stage:
                blocks.append(_Block(weights, channels, halves=halves))
                channels = blocks[-1].second.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.register_buffer("projection", next(weights), persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        template = (_MARGIN + torch.tensor(_TEMPLATE)) / (1 + 2 * _MARGIN)
        self.register_buffer("template", 2 * template - 1, persistent=False)
        self.register_buffer("five", torch.tensor(_FIVE), persistent=False)
        self.requires_grad_(False)

    def forward(
        self, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
    ) -> list[Float[Tensor, "..."]]:
        """Return the activations after each stage and, last, the embedding of 128 numbers.

        Args:
            frames: in [-1, 1], RGB.
            landmarks: of the faces, in [-1, 1] across each frame's edges.
        """
        aligned = self.align(frames, landmarks)
        x = F.max_pool2d(F.relu(self.stem(((aligned + 1) * 127.5 - self.get_buffer("mean")) / 256)), 3, stride=2)
        activations = []
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return [*activations, x.mean(dim=(2, 3)) @ self.get_buffer("projection")]

    def align(
        self, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
    ) -> Float[Tensor, "batch 3 side side"]:
        """Align faces to the template by the least-squares similarity transform of their five points."""
        # Not a list as the index, which would be copied to the device in each call.
        template, points = self.get_buffer("template"), landmarks.index_select(1, self.get_buffer("five"))
        middle = template.mean(dim=0), points.mean(dim=1)
        (x, y), (to_x, to_y) = (template - middle[0]).unbind(-1), (points - middle[1][:, None]).unbind(-1)
        variance = (x * x + y * y).sum()
        cosine, sine = (x * to_x + y * to_y).sum(dim=1) / variance, (x * to_y - y * to_x).sum(dim=1) / variance
        rotation = torch.stack([torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=1)
        shift = middle[1] - rotation @ middle[0]
        affine = torch.cat([rotation, shift[..., None]], dim=2)
        grid = F.affine_grid(affine, [len(frames), 3, SIDE, SIDE], align_corners=False)
        aligned: Tensor = F.grid_sample(frames, grid.to(frames.dtype), padding_mode="border", align_corners=False)
        return aligned


class _Convolution(nn.Module):
    """A convolution with the affine scaling after it folded into its kernel and bias."""

    def __init__(
        self, weights: Iterator[Float[Tensor, "..."]], in_channels: int, *, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        convolution, (scale, shift) = next(weights), next(weights).flatten().chunk(2)
        self.channels, self.stride, self.padding = len(scale), stride, padding
        kernel, bias = convolution.flatten().split([len(convolution) - self.channels, self.channels])
        side = math.isqrt(len(kernel) // (self.channels * in_channels))
        kernel = kernel.view(self.channels, in_channels, side, side) * scale[:, None, None, None]
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("bias", bias * scale + shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.get_buffer("kernel"), self.get_buffer("bias"), self.stride, self.padding)


class _Block(nn.Module):
    """A residual block. One that halves the size may add channels; its skip is then padded with zeros."""

    def __init__(self, weights: Iterator[Float[Tensor, "..."]], channels: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = _Convolution(weights, channels, stride=2 if halves else 1, padding=0 if halves else 1)
        self.second = _Convolution(weights, self.first.channels)

    def forward(self, x: Tensor) -> Tensor:
        changed = self.second(F.relu(self.first(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2)
            (rows, columns), (more_rows, more_columns) = changed.shape[2:], x.shape[2:]
            changed = F.pad(changed, (0, more_columns - columns, 0, more_rows - rows))
            x = F.pad(x, (0, 0, 0, 0, 0, changed.shape[1] - x.shape[1]))
        return F.relu(changed + x)


def load_recogniser() -> FaceRecogniser:
    """Load the recogniser; its weights are downloaded on first use.

    Raises:
        AssetError, OSError: the weights are not available.
    """
    return FaceRecogniser(_layers(assets.fetch(WEIGHTS).read_bytes()))


def _layers(data: bytes) -> Iterator[Float[Tensor, "rows columns"]]:
    """Yield the parameters of each layer of a serialised dlib network."""
    for layer in _LAYER.finditer(data):
        # Each layer has its array's version and four sizes; a fully connected layer has two more numbers before them.
        start, num_numbers = layer.end(), 7 if layer.group().endswith(b"fc_2") else 5
        numbers = []
        for _ in range(num_numbers):
            # One byte holds the length of the next number, which is little-endian.
            end = start + 1 + data[start]
            numbers.append(int.from_bytes(data[start + 1 : end], "little"))
            start = end
        rows, columns = numbers[-4], math.prod(numbers[-3:])
        values = np.frombuffer(data, "<f4", rows * columns, start)
        yield torch.from_numpy(values.astype(np.float32)).view(rows, columns)
