"""Describe the machine that a benchmark ran on, and measure CPU time."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def describe_machine(*packages: str) -> dict[str, str]:
    """Return the processor, its cores, Python's version and the versions of `packages`."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def in_words(machine: Mapping[str, str]) -> str:
    """Return the machine's description on one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())


def available_cpus() -> int:
    """Return how many CPUs this process may use: by its affinity and by its container's quota (cgroup v2)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if _CPU_QUOTA.exists():
        limit, period = _CPU_QUOTA.read_text().split()
        if limit != "max":
            available = min(available, max(1, int(limit) // int(period)))
    return available


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, its threads and its finished children, user and system."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
