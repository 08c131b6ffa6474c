import pytest
import torch
from torch import nn

from training.meta_training.ema import EMA
from training.models.layers import sn_linear


def _set(module: nn.Linear, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def test_the_average_by_hand_with_its_warm_up() -> None:
    linear = nn.Linear(1, 1, bias=False)
    _set(linear, 0.0)
    ema = EMA(linear, 0.25)
    _set(linear, 1.0)
    ema.update(linear)  # decay (1 + 1) / (10 + 1) = 2/11
    assert float(ema.shadow["weight"]) == pytest.approx(9 / 11)
    ema.update(linear)  # min(0.25, 3/12) = 0.25
    assert float(ema.shadow["weight"]) == pytest.approx(9 / 11 * 0.25 + 0.75)
    for _ in range(50):
        ema.update(linear)
    assert float(ema.shadow["weight"]) == pytest.approx(1)


def test_without_warm_up_the_decay_given_holds_from_the_first_update() -> None:
    linear = nn.Linear(1, 1, bias=False)
    _set(linear, 0.0)
    ema = EMA(linear, 0.75, warm_up=False)
    _set(linear, 1.0)
    ema.update(linear)
    assert float(ema.shadow["weight"]) == 0.25
    ema.update(linear)
    assert float(ema.shadow["weight"]) == pytest.approx(1 - 0.75**2)


def test_the_decay_given_holds_in_a_long_run() -> None:
    linear = nn.Linear(1, 1, bias=False)
    _set(linear, 0.0)
    ema = EMA(linear, 0.5)
    ema.num_updates = 1000
    _set(linear, 1.0)
    ema.update(linear)
    assert float(ema.shadow["weight"]) == 0.5


def test_the_singular_vectors_of_spectral_norm_are_copied_not_averaged() -> None:
    layer = sn_linear(4, 3).train()
    ema = EMA(layer, 0.9)
    for _ in range(5):
        layer(torch.randn(1, 4))
        ema.update(layer)
    for name, buffer in layer.named_buffers():
        assert torch.equal(ema.shadow[name], buffer)
        assert float(ema.shadow[name].norm()) == pytest.approx(1, abs=1e-5)
    assert ema.shadow.keys() == layer.state_dict().keys()


def test_the_shadow_is_a_copy() -> None:
    linear = nn.Linear(1, 1)
    ema = EMA(linear, 0.9)
    _set(linear, 42.0)
    assert float(ema.shadow["weight"]) != 42
