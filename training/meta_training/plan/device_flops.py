"""Measure a device's floating-point rate and memory, and count a function's operations, launches and waits."""

import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipelines.machine import cpu_seconds
from training.config import Precision

_SIDE = {"cuda": 8192, "cpu": 1536}
_REPEATS = 5


def measure_flops(device: torch.device, precision: Precision) -> float:
    """Return floating-point operations per second in the product of two large matrices, the best of several runs.

    Seconds are wall-clock time on a GPU, and CPU time, summed over cores, on a CPU, which other processes may use too.
    """
    side = _SIDE.get(device.type, _SIDE["cpu"])
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    seconds = []
    for _ in range(_REPEATS):
        before = _now(device)
        torch.mm(left, right)
        seconds.append(_now(device) - before)
    return float(2 * side**3 / min(seconds))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return cpu_seconds()


def count_flops(act: Callable[[], object]) -> int:
    """Count operations of convolutions, matrix products and attention in a call; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        act()
    return int(counter.get_total_flops())


def count_launches(act: Callable[[], object]) -> int:
    """Count operations in a call that are not views, each at least one kernel on a GPU, unless it is compiled."""
    with Kernels() as kernels:  # type: ignore[no-untyped-call] # torch's
        act()
    return int(kernels.number)


class Kernels(TorchDispatchMode):
    """Counts operations that are not views."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not func.is_view
        return func(*args, **(kwargs or {}))


def count_waits(act: Callable[[], object], device: torch.device) -> int | None:
    """Count how often a call waits for a CUDA device, as torch's debug mode warns of it; None for other devices."""
    if device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            act()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(each.message) for each in caught)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that tensors of a CUDA device took, or that this process took of the host's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
