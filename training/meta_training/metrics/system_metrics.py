"""A worker's hardware and its utilisation, under the names that MLflow uses for system metrics."""

import psutil
import torch

from pipelines.machine import describe_machine, in_words

_MEGABYTE = 1e6


def describe(device: torch.device, num_workers: int) -> dict[str, str]:
    """Return the device, the number of workers, the processor and the versions of software."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "workers": str(num_workers), "machine": in_words(describe_machine("torch"))}


class SystemMetrics:
    """Utilisation of this machine since the last call."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first call starts the measurement

    def __call__(self) -> dict[str, float]:
        """Return utilisation in percent and memory in megabytes, of the GPU too if the device is one."""
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
