"""A 3x3 convolution and the halving after it, or the doubling before it, in one pass.

Averaging 2x2 outputs of a 3x3 kernel is a 4x4 kernel of stride 2, the mean of the four places where the 3x3 kernel can
stand; convolving a picture whose pixels were doubled is the transposed convolution with the sum of the four. Either is
the same function at 16 instead of 36 multiplications per output or input pixel, and never holds the larger map.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# Below, there are fewer pixels than it takes to make up for preparing the kernel. It must not depend on the batch: the
# parts of one would be rounded otherwise than the whole.
SMALLEST = 32


def convolve_and_halve(conv: nn.Module, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
    """`avg_pool2d(conv(x), 2)` of a 3x3 convolution that keeps height and width."""
    if x.shape[-2] < SMALLEST:
        return F.avg_pool2d(conv(x), 2)
    weight, bias = _parameters(conv)
    return F.conv2d(x, _four_places(weight) / 4, bias, stride=2, padding=1)


def double_and_convolve(conv: nn.Module, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
    """`conv(interpolate(x, scale_factor=2, mode="nearest"))` of a 3x3 convolution that keeps height and width."""
    if 2 * x.shape[-2] < SMALLEST:
        return conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # type: ignore[no-any-return]
    weight, bias = _parameters(conv)
    return F.conv_transpose2d(x, _four_places(weight.flip(2, 3)).transpose(0, 1), bias, stride=2, padding=1)


def _parameters(conv: nn.Module) -> tuple[Float[Tensor, "out in 3 3"], Float[Tensor, "out"]]:
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return weight, bias


def _four_places(kernel: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "out in 4 4"]:
    """The sum of a kernel at the four places where it fits into 4x4."""
    rows = F.pad(kernel, (0, 0, 0, 1)) + F.pad(kernel, (0, 0, 1, 0))
    summed: Tensor = F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
    return summed
