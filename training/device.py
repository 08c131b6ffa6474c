"""The device that networks and images are on (`--device auto|cpu|cuda|cuda:N`), and copies to it."""

import logging
import os
import re
import shutil
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def send(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return values on a device. Host memory is copied without waiting for a CUDA device: from pinned memory, which
    torch keeps until the copy is made."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    on_host = tensor.device.type == "cpu"
    if on_host and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=on_host)


def choose_device(name: str) -> torch.device:
    """Return the device named `name`; `auto` is a CUDA device if there is one, else the CPU.

    Raises:
        ValueError: `name` is none of auto, cpu, cuda and cuda:N, or there is no such CUDA device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"--device takes auto, cpu, cuda or cuda:N, not {name!r}")
    device, available = torch.device(name), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= available:
        raise ValueError(f"--device {name}: there is no such CUDA device here")
    return device


@lru_cache(maxsize=8)
def compiles(wanted: bool | None, device: torch.device) -> bool:
    """Return whether to compile networks with torch.compile.

    Args:
        wanted: None: on a CUDA device if what torch.compile needs is there; else a warning says what is missing. A
            network that cannot be compiled then runs as it is.
    """
    if wanted is not None or device.type != "cuda":
        return bool(wanted)
    missing = missing_for_compilation()
    if missing:
        logger.warning("networks are not compiled: there is no %s", missing)
        return False
    import torch._dynamo  # takes seconds

    torch._dynamo.config.suppress_errors = True
    return True


def missing_for_compilation() -> str:
    """Return what torch.compile needs on a CUDA device and this machine lacks, or ""."""
    compilers = os.environ.get("CC"), "cc", "gcc", "clang"
    if not any(shutil.which(name) for name in compilers if name):
        return "C compiler (cc, gcc or clang)"
    return "" if find_spec("triton") else "package triton"


def in_batches(compute: Callable[[slice], Result], total: int, batch: int) -> list[Result]:
    """Return what `compute` makes of batch after batch of `total` items. When the device has too little memory, halve
    the batch and go on.

    Raises:
        torch.OutOfMemoryError: there is too little for a batch of one.
    """
    results: list[Result] = []
    first = 0
    while first < total:
        too_large = False
        try:
            results.append(compute(slice(first, min(first + batch, total))))
            first += batch
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            too_large = True
        if too_large:  # outside the handler, whose traceback keeps the tensors
            batch //= 2
            torch.cuda.empty_cache()
    return results
