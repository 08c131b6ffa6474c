from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.fused_resampling import MIN_SIZE, convolve_and_halve, double_and_convolve
from training.models.layers import AdaINResidualBlock, ResidualBlock, StemBlock, normalised_once, sn_conv


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def halve(conv: nn.Module, x: Tensor) -> Tensor:
    return F.avg_pool2d(conv(x), 2)


def double(conv: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    return out


@pytest.mark.parametrize(("fused", "plain"), [(convolve_and_halve, halve), (double_and_convolve, double)])
@pytest.mark.parametrize(("height", "width"), [(MIN_SIZE, MIN_SIZE), (MIN_SIZE + 4, MIN_SIZE + 10), (6, 8)])
def test_one_pass_is_the_same_function_with_the_same_gradients(
    fused: Callable[..., Tensor], plain: Callable[..., Tensor], height: int, width: int
) -> None:
    conv = sn_conv(3, 5, 3).double().eval()
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    results = []
    for function in (fused, plain):
        out = function(conv, x)
        parameters = [x, *conv.parameters()]
        results.append([out, *torch.autograd.grad((out * torch.arange(width).sum() * out).sum(), parameters)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10)


@torch.no_grad()
def test_by_hand_on_one_pixel() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1)
    conv.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    conv.bias.fill_(0.5)  # type: ignore[union-attr]
    x = torch.zeros(1, 1, MIN_SIZE, MIN_SIZE)
    x[0, 0, 4, 4] = 1
    # The pixel lies above and left of output (2, 2)'s square of four, once under each of kernel values 4, 3, 1, 0.
    assert float(convolve_and_halve(conv, x)[0, 0, 2, 2]) == pytest.approx((4 + 3 + 1 + 0) / 4 + 0.5)
    # Doubled it covers rows and columns 8 and 9; output (8, 8) sees it under 4, 5, 7, 8.
    assert float(double_and_convolve(conv, x)[0, 0, 8, 8]) == pytest.approx(4 + 5 + 7 + 8 + 0.5)


@pytest.mark.parametrize(
    "block",
    [
        lambda: StemBlock(6, 4),
        lambda: ResidualBlock(6, 4, norm=True, resampling="down"),
        lambda: AdaINResidualBlock(6, 4, up=True),
    ],
)
def test_blocks_are_the_same_merged_and_apart(block: Callable[[], nn.Module]) -> None:
    module = block().eval()
    x = torch.randn(2, 6, 32, 32)
    inputs = (x, torch.randn(2, 20)) if isinstance(module, AdaINResidualBlock) else (x,)
    with normalised_once(module):
        fused = module(*inputs)
        module.fused = False  # type: ignore[assignment]
        assert torch.allclose(module(*inputs), fused, atol=1e-5)
