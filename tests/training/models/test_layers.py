import copy

import pytest
import torch
from torch.nn import functional as F

from training.models.layers import (
    AdaINResidualBlock,
    ResidualBlock,
    SelfAttention,
    StemBlock,
    adain,
    advance_spectral_norms,
    num_parameters,
    resample,
    sn_conv,
    sn_linear,
)


def test_adain_by_hand() -> None:
    # Mean 3, variance (4 + 4 + 0 + 0) / 4 = 2: normalised -2, 2, 0, 0 over sqrt(2).
    x = torch.tensor([[[[1.0, 5.0], [3.0, 3.0]]]])
    out = adain(x, torch.tensor([[10.0]]), torch.tensor([[7.0]]))
    expected = 7 + 10 * torch.tensor([[-2.0, 2.0], [0.0, 0.0]]) / (2 + 1e-4) ** 0.5
    assert torch.allclose(out[0, 0], expected, atol=1e-5)


def test_adain_of_a_constant_channel_is_its_bias_and_has_a_finite_gradient() -> None:
    x = torch.full((1, 2, 4, 4), 3.0, requires_grad=True)
    scale = torch.ones(1, 2, requires_grad=True)
    out = adain(x, scale, torch.tensor([[0.5, -0.5]]))
    assert torch.allclose(out[0, 0], torch.full((4, 4), 0.5))
    out.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert scale.grad is not None
    assert torch.isfinite(scale.grad).all()


def test_adain_treats_each_picture_and_channel_by_itself() -> None:
    x = torch.randn(3, 2, 5, 5)
    scale, bias = torch.randn(3, 2), torch.randn(3, 2)
    alone = adain(x[1:2, 1:2], scale[1:2, 1:2], bias[1:2, 1:2])
    assert torch.allclose(adain(x, scale, bias)[1:2, 1:2], alone, atol=1e-6)


def test_resampling_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert resample(x, "down").tolist() == [[[[3.0]]]]
    assert resample(x, "up")[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 6, 6], [3, 3, 6, 6]]
    assert resample(x, "none") is x


@pytest.mark.parametrize(("resampling", "size"), [("none", 8), ("down", 4), ("up", 16)])
@pytest.mark.parametrize("norm", [True, False])
def test_residual_blocks_resample_both_of_their_ways(norm: bool, resampling: str, size: int) -> None:
    block = ResidualBlock(3, 5, norm=norm, resampling=resampling)  # type: ignore[arg-type]
    assert block(torch.randn(2, 3, 8, 8)).shape == (2, 5, size, size)


def test_a_residual_block_of_equal_ends_passes_its_input_by_unchanged() -> None:
    block = ResidualBlock(3, 3, norm=False, resampling="none").eval()
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(block(x), block.conv2(F.relu(block.conv1(F.relu(x)))) + x)
    assert num_parameters(block.skip) == 0


def test_a_residual_block_acts_before_it_convolves() -> None:
    """Pre-activation: a negative input reaches the skip but not the convolutions."""
    block = ResidualBlock(2, 2, norm=False, resampling="none").eval()
    x = -torch.rand(1, 2, 6, 6) - 0.1
    still = block.conv2(F.relu(block.conv1(torch.zeros_like(x))))
    assert torch.allclose(block(x), x + still, atol=1e-6)


def test_the_stem_does_not_act_first_and_halves() -> None:
    stem = StemBlock(6, 4).eval()
    x = -torch.rand(1, 6, 8, 8)
    expected = F.avg_pool2d(stem.conv2(F.relu(stem.conv1(x))), 2) + F.avg_pool2d(stem.skip(x), 2)
    assert torch.allclose(stem(x), expected, atol=1e-6)


@pytest.mark.parametrize(("up", "size"), [(True, 16), (False, 8)])
def test_adain_blocks_take_scale_and_bias_of_both_norms(up: bool, size: int) -> None:
    block = AdaINResidualBlock(3, 5, up=up).eval()
    assert block.num_adain_values == 3 + 3 + 5 + 5
    x, values = torch.randn(2, 3, 8, 8), torch.randn(2, 16)
    scale1, bias1, scale2, bias2 = values[:, :3], values[:, 3:6], values[:, 6:11], values[:, 11:]
    how = "up" if up else "none"
    body = block.conv1(resample(F.relu(adain(x, scale1, bias1)), how))
    body = block.conv2(F.relu(adain(body, scale2, bias2)))
    out = block(x, values)
    assert out.shape == (2, 5, size, size)
    # The published order: upsample, then the 1x1 convolution of the skip.
    assert torch.allclose(out, body + block.skip(resample(x, how)), atol=1e-6)


def test_self_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(SelfAttention(8)(x), x)


def test_self_attention_is_the_softmax_of_sagan() -> None:
    attention = SelfAttention(16).eval()
    with torch.no_grad():
        attention.gamma.fill_(0.7)
    x = torch.randn(2, 16, 3, 3)
    query, key, value = (conv(x).flatten(2) for conv in (attention.query, attention.key, attention.value))
    assert query.shape == (2, 2, 9)
    # beta_{j,i}: how much position j listens to position i (SAGAN, equation 1; no division by sqrt(d)).
    energy = torch.einsum("bcj,bci->bji", query, key)
    weights = energy.exp() / energy.exp().sum(dim=2, keepdim=True)
    expected = x + 0.7 * torch.einsum("bji,bci->bcj", weights, value).view_as(x)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    for layer in (sn_linear(6, 4), sn_conv(3, 4, 3)):
        with torch.no_grad():
            layer.get_parameter("parametrizations.weight.original").mul_(50)
        layer.train()
        for _ in range(200):  # each training forward is one step of the power iteration
            weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        assert torch.linalg.matrix_norm(weight.detach().flatten(1), 2) == pytest.approx(1, abs=1e-3)


def test_a_power_iteration_is_that_of_a_forward_pass_in_training_mode() -> None:
    layers = [sn_conv(3, 5, 3), sn_linear(4, 7)]
    others = copy.deepcopy(layers)
    for ours, torchs, x in zip(layers, others, (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4)), strict=True):
        advance_spectral_norms(ours.eval())
        torchs.train()(x)
        for (name, value), (_, expected) in zip(ours.named_buffers(), torchs.named_buffers(), strict=True):
            assert torch.equal(value, expected), name
