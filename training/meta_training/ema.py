"""Exponential moving average of weights: the weights that are evaluated, published and fine-tuned.

Not torch.optim.swa_utils.AveragedModel: it copies the weights at its first update instead of averaging them, and its
EMA has a constant decay.
"""

import torch
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
        self.num_updates = 0
        self._averaged = {name for name, _ in module.named_parameters()}
        self.shadow: dict[str, Tensor] = {}
        self.start_at(module)

    def start_at(self, module: nn.Module) -> None:
        """Restart the average at the module's present state."""
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Average in the module's present state."""
        self.num_updates += 1
        warm_up_decay = (1 + self.num_updates) / (10 + self.num_updates)
        decay = min(self.decay, warm_up_decay) if self.warm_up else self.decay
        for name, value in module.state_dict().items():
            if name in self._averaged:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)
