"""Communication between workers in a step: sums of gradients that overlap the backward pass, and an all-gather of
updated rows of W.

Workers divide a step's episodes among themselves as evenly as possible. Each weights its loss by its share, so that the
sum over workers is the mean over the step's episodes for any number of workers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from training.episodes.sampler import share
from training.meta_training.overlapped_sums import OverlappedSums


class Exchange(Protocol):
    """The collective operations that a training step uses."""

    rank: int
    world_size: int

    def overlap(self, parameters: Sequence[nn.Parameter], completes: bool = True) -> AbstractContextManager[None]:
        """A block with a backward pass. If it `completes` the gradients, their sums start as soon as they can."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        """Replace gradients by their sum over workers; return its Euclidean norm, which is not finite if any gradient
        is not."""

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"], num_episodes: int
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        """Return the row indices of all `num_episodes` episodes and their gradients, in rank order."""

    def sum_values(self, values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
        """Return the sum of a few numbers over workers."""

    def broadcast_from_rank0(self, choose: Callable[[], str | None]) -> str | None:
        """Return the value that `choose` gives on rank 0, on all workers."""


class SingleProcess:
    """A single worker."""

    rank = 0
    world_size = 1

    def overlap(self, parameters: Sequence[nn.Parameter], completes: bool = True) -> AbstractContextManager[None]:
        del parameters, completes
        return nullcontext()

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm: Tensor = torch.nn.utils.get_total_norm(gradients)
        return norm

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"], num_episodes: int
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        assert len(indices) == num_episodes
        return indices, gradients

    def sum_values(self, values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
        return values

    def broadcast_from_rank0(self, choose: Callable[[], str | None]) -> str | None:
        return choose()


class ProcessGroup:
    """Workers of an initialised torch.distributed process group (gloo or NCCL)."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._sums: dict[tuple[int, ...], OverlappedSums] = {}

    @contextmanager
    def overlap(self, parameters: Sequence[nn.Parameter], completes: bool = True) -> Iterator[None]:
        if completes:
            self._sums_of(parameters).begin()
        yield

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        return self._sums_of(parameters).finish()

    def _sums_of(self, parameters: Sequence[nn.Parameter]) -> OverlappedSums:
        key = tuple(map(id, parameters))
        if key not in self._sums:
            self._sums[key] = OverlappedSums(parameters)
        return self._sums[key]

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"], num_episodes: int
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        shares = [share(num_episodes, rank, self.world_size) for rank in range(self.world_size)]
        sizes = [each.stop - each.start for each in shares]
        assert len(indices) == sizes[self.rank]
        # all_gather needs equal sizes: shares that are one short are padded, and cut after.
        all_indices = [indices.new_empty(max(sizes)) for _ in sizes]
        all_gradients = [gradients.new_empty(max(sizes), gradients.shape[1]) for _ in sizes]
        missing = max(sizes) - len(indices)
        dist.all_gather(all_indices, F.pad(indices, (0, missing)))
        dist.all_gather(all_gradients, F.pad(gradients, (0, 0, 0, missing)))
        return (
            torch.cat([each[:size] for each, size in zip(all_indices, sizes, strict=True)]),
            torch.cat([each[:size] for each, size in zip(all_gradients, sizes, strict=True)]),
        )

    def sum_values(self, values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def broadcast_from_rank0(self, choose: Callable[[], str | None]) -> str | None:
        chosen = [choose() if self.rank == 0 else None]
        dist.broadcast_object_list(chosen)
        return chosen[0]
