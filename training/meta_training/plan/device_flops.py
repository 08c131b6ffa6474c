"""Measure a device's floating-point rate, and count the operations of a function."""

import time
from collections.abc import Callable

import torch
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
