"""Building blocks of the three networks: residual blocks, AdaIN and self-attention, all with spectral norm."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from training.models.fused_resampling import convolve_and_halve, double_and_convolve

EPS = 1e-4  # of spectral norm, instance norm and AdaIN

Resample = Literal["none", "down", "up"]


def sn_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
    """Return a convolution with spectral norm that keeps height and width."""
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), eps=EPS)


def sn_linear(in_features: int, out_features: int) -> nn.Module:
    """Return a linear layer with spectral norm."""
    return spectral_norm(nn.Linear(in_features, out_features), eps=EPS)


@torch.no_grad()
def advance_spectral_norms(network: nn.Module) -> None:
    """Make one power iteration on every weight of a network in evaluation mode, where forward passes make none.

    In training mode torch iterates in every forward pass; the weights would then depend on the number of passes per
    batch, and so on the number of workers.
    """
    for module in network.modules():
        if isinstance(module, parametrize.ParametrizationList):
            norm: Any = module[0]
            # The private method: calling the module would also normalise the weight, which costs as much again.
            norm._power_method(norm._reshape_weight_to_matrix(module.original), norm.n_power_iterations)


@contextlib.contextmanager
def normalised_once(*networks: nn.Module) -> Iterator[None]:
    """Within the block, divide every weight by its spectral norm once, in float32 even under autocast."""
    with parametrize.cached():
        for network in networks:
            device = next(network.parameters()).device.type
            # Tensors without data (`meta_training.plan`) know no autocast.
            with torch.autocast(device, enabled=False) if device != "meta" else contextlib.nullcontext():
                for module in network.modules():
                    if parametrize.is_parametrized(module, "weight"):
                        module.weight  # noqa: B018 - read for the cache
        yield


def resample(x: Float[Tensor, "batch channels h w"], direction: Resample) -> Float[Tensor, "batch channels h2 w2"]:
    """Double height and width (nearest neighbour), halve them (mean), or return `x`."""
    if direction == "up":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return F.avg_pool2d(x, 2) if direction == "down" else x


def adain(
    x: Float[Tensor, "batch channels h w"],
    scale: Float[Tensor, "batch channels"],
    bias: Float[Tensor, "batch channels"],
) -> Float[Tensor, "batch channels h w"]:
    """Return `scale * (x - mean) / sqrt(var + eps) + bias` per image and channel (arXiv 1703.06868).

    Not `std + eps`, whose gradient is infinite where a channel is constant.
    """
    normalised = F.instance_norm(x, eps=EPS)
    return scale[:, :, None, None] * normalised + bias[:, :, None, None]


class StemBlock(nn.Module):
    """The first block of each network: no pre-activation, no norm; halves height and width."""

    fused = True
    """Whether to fuse a convolution with its resampling (training.models.fused_resampling); computes the same."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = sn_conv(in_channels, out_channels, 3)
        self.conv2 = sn_conv(out_channels, out_channels, 3)
        self.skip = sn_conv(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
        body = F.relu(self.conv1(x))
        if not self.fused:
            return F.avg_pool2d(self.conv2(body), 2) + F.avg_pool2d(self.skip(x), 2)
        # A 1x1 convolution commutes with resampling and costs a quarter at the smaller size.
        halved: Tensor = convolve_and_halve(self.conv2, body) + self.skip(F.avg_pool2d(x, 2))
        return halved


class ResidualBlock(nn.Module):
    """`[norm] -> ReLU -> conv3x3 -> [norm] -> ReLU -> conv3x3 -> resampling`, plus a skip connection.

    Args:
        norm: whether there is affine instance norm before each activation.
        resampling: "down" halves height and width, "up" doubles them.
    """

    fused = True

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, resampling: Resample) -> None:
        super().__init__()
        self.resampling: Resample = resampling
        self.norm1 = nn.InstanceNorm2d(in_channels, eps=EPS, affine=True) if norm else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(out_channels, eps=EPS, affine=True) if norm else nn.Identity()
        self.conv1 = sn_conv(in_channels, out_channels, 3)
        self.conv2 = sn_conv(out_channels, out_channels, 3)
        reshapes = in_channels != out_channels or resampling != "none"
        self.skip = sn_conv(in_channels, out_channels, 1) if reshapes else nn.Identity()

    def forward(self, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
        body = F.relu(self.norm2(self.conv1(F.relu(self.norm1(x)))))
        if self.resampling == "down" and self.fused:
            halved: Tensor = convolve_and_halve(self.conv2, body) + self.skip(F.avg_pool2d(x, 2))
            return halved
        return resample(self.conv2(body), self.resampling) + resample(self.skip(x), self.resampling)


class AdaINResidualBlock(nn.Module):
    """A residual block whose two norms take scale and bias as inputs (`num_adain_values` of them)."""

    fused = True

    def __init__(self, in_channels: int, out_channels: int, *, up: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.resampling: Resample = "up" if up else "none"
        self.conv1 = sn_conv(in_channels, out_channels, 3)
        self.conv2 = sn_conv(out_channels, out_channels, 3)
        self.skip = sn_conv(in_channels, out_channels, 1) if up or in_channels != out_channels else nn.Identity()

    @property
    def num_adain_values(self) -> int:
        return 2 * (self.in_channels + self.out_channels)

    def forward(
        self, x: Float[Tensor, "batch in h w"], adain_values: Float[Tensor, "batch values"]
    ) -> Float[Tensor, "batch out h2 w2"]:
        sizes = [self.in_channels, self.in_channels, self.out_channels, self.out_channels]
        scale1, bias1, scale2, bias2 = adain_values.split(sizes, dim=1)
        body = F.relu(adain(x, scale1, bias1))
        if self.resampling == "up" and self.fused:
            body = double_and_convolve(self.conv1, body)
        else:
            body = self.conv1(resample(body, self.resampling))
        body = self.conv2(F.relu(adain(body, scale2, bias2)))
        summed: Tensor = body + resample(self.skip(x), self.resampling)
        return summed


class SelfAttention(nn.Module):
    """SAGAN's self-attention (arXiv 1805.08318): `x + gamma * attention(x)`, with gamma initialised to 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = sn_conv(channels, inner, 1)
        self.key = sn_conv(channels, inner, 1)
        self.value = sn_conv(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        query, key, value = (conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * attended.transpose(1, 2).reshape(x.shape)


def downsampling_blocks(
    image_size: int, in_channels: int, channels: Sequence[int], *, attention_size: int, norm: bool
) -> list[nn.Module]:
    """Return the downsampling part of a network: a stem, then residual blocks, each halving height and width.

    Args:
        channels: output channels of each block, the stem's first.
        attention_size: height of the feature map with self-attention, pixels; 0 for none.
        norm: whether the residual blocks have affine instance norm.
    """
    blocks: list[nn.Module] = []
    size = image_size
    for out_channels in channels:
        if blocks:
            blocks.append(ResidualBlock(in_channels, out_channels, norm=norm, resampling="down"))
        else:
            blocks.append(StemBlock(in_channels, out_channels))
        size, in_channels = size // 2, out_channels
        if size == attention_size:
            blocks.append(SelfAttention(out_channels))
    return blocks


def num_parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
