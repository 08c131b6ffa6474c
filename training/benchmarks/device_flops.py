"""How much arithmetic a device can do, and how much of it an action is."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.machine import cpu_seconds
from training.config import Precision

_SIDE = {"cuda": 8192, "cpu": 1536}
_REPEATS = 5


def measure_flops(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second in the product of two large square matrices, the best of some tries.

    A second is one on the clock on an accelerator, and one of a core on a CPU, which others may use too.
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
    """Floating-point operations of an action's convolutions, matrix products and attentions; a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        act()
    return int(counter.get_total_flops())
