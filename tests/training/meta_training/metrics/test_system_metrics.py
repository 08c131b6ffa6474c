import os
import time

import psutil
import pytest
import torch

from training.meta_training.metrics.system_metrics import SystemMetrics, describe

CPU = torch.device("cpu")


def test_the_machine_is_said_in_words() -> None:
    facts = describe(CPU, 3)
    assert facts["device"] == "CPU"
    assert facts["workers"] == "3"
    assert f"cores {os.cpu_count()}" in facts["machine"]
    assert f"torch {torch.__version__.partition('+')[0]}" in facts["machine"]


def test_a_busy_processor_shows() -> None:
    load = SystemMetrics(CPU)
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    values = load()
    assert values["system/cpu_utilization_percentage"] > 0
    resident = psutil.Process().memory_info().rss / 1e6
    assert values["system/worker_memory_megabytes"] == pytest.approx(resident, rel=0.2)
    assert 0 < values["system/system_memory_usage_percentage"] <= 100
    assert not any("gpu" in name for name in values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_shows_its_memory_and_load() -> None:
    device = torch.device("cuda")
    values = SystemMetrics(device)()
    held = torch.zeros(256, 1_000_000, device=device)  # 1 GB
    after = SystemMetrics(device)()
    grown = after["system/gpu_0_memory_usage_megabytes"] - values["system/gpu_0_memory_usage_megabytes"]
    assert grown >= held.numel() * 4 / 1e6
    assert 0 <= after["system/gpu_0_utilization_percentage"] <= 100
    assert describe(device, 1)["device"] == torch.cuda.get_device_name(0)
