"""Exponential moving average of weights: the weights that are evaluated, published and fine-tuned.

Not torch.optim.swa_utils.AveragedModel: it copies the weights at its first update instead of averaging them, and its
EMA has a constant decay.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class EMA:
    """Averaged parameters and copied buffers of a module.

    Buffers are not averaged: the mean of two unit vectors of spectral norm is no unit vector, so that the normalised
    weights would grow.

    Args:
        warm_up: use the decay `min(decay, (1 + n) / (10 + n))` at update n, so that a short run does not keep its
            random initial weights.
    """

    def __init__(self, module: nn.Module, decay: float, *, warm_up: bool = True) -> None:
        self.decay, self.warm_up = decay, warm_up
        # On the module's device: whether an update counts is known there first.
        self._count = torch.zeros((), dtype=torch.float64, device=next(module.parameters()).device)
        self._averaged = {name for name, _ in module.named_parameters()}
        self.shadow: dict[str, Tensor] = {}
        self.start_at(module)

    def start_at(self, module: nn.Module) -> None:
        """Restart the average at the module's present state."""
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @property
    def num_updates(self) -> int:
        """Number of updates made; reading it waits for the device."""
        return int(self._count)

    @num_updates.setter
    def num_updates(self, number: int) -> None:
        self._count.fill_(number)

    @torch.no_grad()
    def update(self, module: nn.Module, finite: Bool[Tensor, ""] | None = None) -> None:
        """Average in the module's present state. Does not wait for the device.

        Args:
            finite: where False, averages and number of updates stay as they are; buffers are copied all the same.
        """
        count = 1.0 if finite is None else finite.double()
        self._count += count
        weight = torch.full_like(self._count, 1 - self.decay)
        if self.warm_up:
            weight = torch.maximum(weight, 1 - (1 + self._count) / (10 + self._count))
        state = module.state_dict()
        averaged = [name for name in state if name in self._averaged]
        copied = [name for name in state if name not in self._averaged]
        _lerp([self.shadow[name] for name in averaged], [state[name] for name in averaged], weight * count)
        if copied:
            torch._foreach_copy_([self.shadow[name] for name in copied], [state[name] for name in copied])


def _lerp(averages: list[Tensor], values: list[Tensor], weight: Float[Tensor, ""]) -> None:
    """Move averages towards values by a share of their distance, without waiting for the device."""
    if weight.device.type == "cpu":
        torch._foreach_lerp_(averages, values, float(weight))
        return
    distances = torch._foreach_sub(values, averages)
    torch._foreach_mul_(distances, weight.float())
    torch._foreach_add_(averages, distances)
