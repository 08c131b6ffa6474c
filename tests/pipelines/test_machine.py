"""How many CPUs a process may use: those of the machine, its affinity, its container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines import machine


@pytest.mark.parametrize(
    ("cores", "quota", "available"),
    [
        (8, None, 8),
        (3, None, 3),
        (8, "max 100000", 8),
        (8, "200000 100000", 2),
        (8, "50000 100000", 1),
        (2, "800000 100000", 2),
    ],
)
def test_affinity_and_quota_both_count(
    cores: int, quota: str | None, available: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(machine, "_CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.available_cpus() == available
