"""What a worker trains on, and how busy it is. Metrics have the names that MLflow shows as system metrics."""

import psutil
import torch

from pipelines.machine import describe_machine, in_words

_MEGABYTE = 1e6


def describe(device: torch.device, num_workers: int) -> dict[str, str]:
    """The device, how many workers have one, the processor and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "workers": str(num_workers), "machine": in_words(describe_machine("torch"))}


class SystemMetrics:
    """How busy this machine is since the last look."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first call only begins to count

    def __call__(self) -> dict[str, float]:
        """Shares in percent, memory in megabytes; the GPU's only where there is one."""
        memory = psutil.virtual_memory()
        values = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_percentage": memory.percent,
            "system/system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system/worker_memory_megabytes": self._process.memory_info().rss / _MEGABYTE,
        }
        return values | (self._gpu() if self._device.type == "cuda" else {})

    def _gpu(self) -> dict[str, float]:
        index = self._device.index or 0
        free, total = torch.cuda.mem_get_info(self._device)
        return {
            f"system/gpu_{index}_utilization_percentage": float(torch.cuda.utilization(self._device)),
            f"system/gpu_{index}_memory_usage_percentage": 100 * (total - free) / total,
            f"system/gpu_{index}_memory_usage_megabytes": (total - free) / _MEGABYTE,
            f"system/gpu_{index}_peak_allocated_megabytes": torch.cuda.max_memory_allocated(self._device) / _MEGABYTE,
        }
