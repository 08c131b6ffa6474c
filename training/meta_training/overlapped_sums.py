"""Sum gradients over workers while the backward pass still runs.

Parameters are divided into buckets in the order in which the first backward pass completes their gradients (Li et al.,
PyTorch Distributed, VLDB 2020). From the second pass on, the sum of a bucket starts as soon as all its gradients and
those of the buckets before it are there: every worker sums the buckets in the same order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

BUCKET_BYTES = 25 * 2**20
"""As in torch's DistributedDataParallel: large enough for the links' full rate, small enough to start early."""


class OverlappedSums:
    """Sums over workers of the gradients of some parameters; used for any number of steps.

    Args:
        parameters: the same on all workers, in the same order, of one data type.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
        self._parameters, self._bucket_bytes = [*parameters], bucket_bytes
        self._arrived: dict[nn.Parameter, int] | None = {}
        """Places in which the first gradients came; None: the buckets are made."""
        self._fill([*reversed(self._parameters)])
        self._started: list[tuple[list[nn.Parameter], list[Tensor], Tensor, Any]] = []
        self._missing: list[int] | None = None
        """Number of gradients that each bucket lacks; None: do not start."""
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._on_gradient)

    def _fill(self, parameters: Sequence[nn.Parameter]) -> None:
        self._buckets = _divided(parameters, self._bucket_bytes)
        self._bucket_of = {parameter: number for number, bucket in enumerate(self._buckets) for parameter in bucket}

    def begin(self) -> None:
        """Start sums from now on: the next backward pass completes the gradients."""
        self._missing = [len(bucket) for bucket in self._buckets]

    def finish(self) -> Float[Tensor, ""]:
        """Start the sums that have not started, replace all gradients by their sums, and return the Euclidean norm.

        Gradients become parts of their bucket. A parameter without a gradient, on all workers, keeps none.
        """
        self._missing = None
        while len(self._started) < len(self._buckets):
            self._start()
        flats = []
        for members, views, flat, work in self._started:
            if work is None:
                continue
            work.wait()
            flats.append(flat)
            for parameter, view in zip(members, views, strict=True):
                parameter.grad = view
        self._started = []
        if self._arrived:
            self._arrange(self._arrived)
            self._arrived = None
        norm: Tensor = torch.nn.utils.get_total_norm(flats)
        return norm

    def _arrange(self, arrived: Mapping[nn.Parameter, int]) -> None:
        """Make the buckets of the first worker's order; parameters without a gradient come last."""
        last = len(arrived)
        order = sorted(range(len(self._parameters)), key=lambda n: arrived.get(self._parameters[n], last))
        chosen = [order]
        dist.broadcast_object_list(chosen)
        self._fill([self._parameters[number] for number in chosen[0]])

    def _on_gradient(self, parameter: Tensor) -> None:
        if self._missing is None:
            return
        assert isinstance(parameter, nn.Parameter)
        if self._arrived is not None:
            self._arrived[parameter] = len(self._arrived)
            return
        self._missing[self._bucket_of[parameter]] -= 1
        while len(self._started) < len(self._buckets) and not self._missing[len(self._started)]:
            self._start()

    def _start(self) -> None:
        """Start the sum of the next bucket."""
        members = [each for each in self._buckets[len(self._started)] if each.grad is not None]
        gradients = [each.grad for each in members if each.grad is not None]
        if not members:
            self._started.append(([], [], torch.empty(0), None))
            return
        flat = gradients[0].new_empty(sum(each.numel() for each in gradients))
        views = [
            part.as_strided(parameter.shape, parameter.stride())  # of any memory format
            for parameter, part in zip(members, flat.split([each.numel() for each in gradients]), strict=True)
        ]
        torch._foreach_copy_(views, gradients)
        self._started.append((members, views, flat, dist.all_reduce(flat, async_op=True)))


def _divided(parameters: Sequence[nn.Parameter], most: int) -> list[list[nn.Parameter]]:
    """Divide the parameters into buckets of at most `most` bytes, or of one larger parameter."""
    buckets: list[list[nn.Parameter]] = []
    size = most
    for parameter in parameters:
        needed = parameter.numel() * parameter.element_size()
        if size + needed > most:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += needed
    return buckets
