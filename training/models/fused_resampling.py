"""A 3x3 convolution fused with the downsampling after it, or the upsampling before it.

Averaging 2x2 outputs of a 3x3 convolution equals a 4x4 convolution of stride 2, whose kernel is the mean of the 3x3
kernel at its four positions. Convolving an image upsampled by nearest neighbour equals a transposed convolution with
the sum of the four. Both take 16 instead of 36 multiplications per output or input pixel and never hold the larger
feature map.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# Smallest height at which fusing pays for preparing the kernel. The choice must not depend on the batch size: a part of
# a batch would then be rounded differently from the whole.
MIN_SIZE = 32


def convolve_and_halve(conv: nn.Module, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
    """Return `avg_pool2d(conv(x), 2)` for a 3x3 convolution with padding 1."""
    if x.shape[-2] < MIN_SIZE:
        return F.avg_pool2d(conv(x), 2)
    weight, bias = _parameters(conv)
    return F.conv2d(x, _shifted_sum(weight) / 4, bias, stride=2, padding=1)


def double_and_convolve(conv: nn.Module, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
    """Return `conv(interpolate(x, scale_factor=2, mode="nearest"))` for a 3x3 convolution with padding 1."""
    if 2 * x.shape[-2] < MIN_SIZE:
        return conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # type: ignore[no-any-return]
    weight, bias = _parameters(conv)
    return F.conv_transpose2d(x, _shifted_sum(weight.flip(2, 3)).transpose(0, 1), bias, stride=2, padding=1)


def _parameters(conv: nn.Module) -> tuple[Float[Tensor, "out in 3 3"], Float[Tensor, "out"]]:
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return weight, bias


def _shifted_sum(kernel: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "out in 4 4"]:
    """Sum a 3x3 kernel at its four positions within 4x4."""
    rows = F.pad(kernel, (0, 0, 0, 1)) + F.pad(kernel, (0, 0, 1, 0))
    summed: Tensor = F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
    return summed
