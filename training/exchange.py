"""What workers tell each other in a step: one flat all-reduce per phase, and the rows of W that were touched."""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn


class Exchange(Protocol):
    """The world as a training step sees it."""

    rank: int
    world_size: int

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> float:
        """Replace gradients by their mean over workers; return its Euclidean norm (not finite if any was not)."""

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"]
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        """Everybody's touched rows in rank order, gradients of the mean loss over all workers."""


class SingleProcess:
    """No other workers."""

    rank = 0
    world_size = 1

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> float:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"]
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        return indices, gradients


class ProcessGroup:
    """torch.distributed, gloo or NCCL, already initialised."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> float:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(averaged.view_as(gradient))
        return float(flat.norm())

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"]
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        all_indices = [torch.empty_like(indices) for _ in range(self.world_size)]
        all_gradients = [torch.empty_like(gradients) for _ in range(self.world_size)]
        dist.all_gather(all_indices, indices)
        dist.all_gather(all_gradients, gradients.contiguous())
        return torch.cat(all_indices), torch.cat(all_gradients) / self.world_size
