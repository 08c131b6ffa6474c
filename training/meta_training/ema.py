"""Exponential moving average of weights: what is evaluated, shipped and fine-tuned."""

import torch
from torch import Tensor, nn


class EMA:
    """Shadow copy of a module's parameters and buffers.

    Buffers are copied, not averaged: the mean of two unit vectors of spectral norm is no unit vector, and the weights
    they divide would grow.

    Args:
        warm_up: let the decay begin as `min(decay, (1 + n) / (10 + n))`, so that a short run is not averaged with its
            random start.
    """

    def __init__(self, module: nn.Module, decay: float, *, warm_up: bool = True) -> None:
        self.decay, self.warm_up = decay, warm_up
        self.num_updates = 0
        self._averaged = {name for name, _ in module.named_parameters()}
        self.shadow: dict[str, Tensor] = {}
        self.start_at(module)

    def start_at(self, module: nn.Module) -> None:
        """Forget what was averaged: the module as it is now."""
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.num_updates += 1
        early = (1 + self.num_updates) / (10 + self.num_updates)
        decay = min(self.decay, early) if self.warm_up else self.decay
        for name, value in module.state_dict().items():
            if name in self._averaged:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)
