"""The device that networks and images are on: `--device auto|cpu|cuda|cuda:N`."""

import re

import torch


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
