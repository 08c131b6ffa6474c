"""Shared by the benchmarks: CPU seconds of several methods in interleaved rounds, and a result with figures."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.cli import CommandResult, progress
from pipelines.machine import cpu_seconds


@dataclass(frozen=True)
class Cost:
    """CPU seconds (over all cores) and wall-clock seconds per item."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class BenchmarkResult(CommandResult):
    """A command result with figures and ratios, which are part of its JSON."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object on one line."""
        plain = {**json.loads(super().to_json()), "figures": dict(self.figures), "ratios": dict(self.ratios)}
        return json.dumps(plain, ensure_ascii=False)


def measure_rounds(
    methods: Mapping[str, tuple[Callable[[], object], int]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[Cost]]:
    """Measure each method once per round, and return its cost per item in each round.

    Args:
        methods: name -> (function to measure, number of items it processes).
        warm_up: run a first round, which fills caches and does not count.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in methods}
    with progress() as bar:
        task = bar.add_task("rounds", total=(rounds + warm_up) * len(methods))
        for number in range(rounds + warm_up):
            for name, (act, num_items) in methods.items():
                cpu, wall = cpu_seconds(), time.perf_counter()
                act()
                cost = Cost((cpu_seconds() - cpu) / num_items, (time.perf_counter() - wall) / num_items)
                if number >= warm_up:
                    costs[name].append(cost)
                bar.advance(task)
    return costs


def measure_interleaved(
    methods: Mapping[str, tuple[Callable[[], object], int]], rounds: int, *, warm_up: bool = True
) -> dict[str, Cost]:
    """Return the median cost per item of each method; see `measure_rounds`."""
    return {name: median(found) for name, found in measure_rounds(methods, rounds, warm_up=warm_up).items()}


def median(costs: Sequence[Cost]) -> Cost:
    """Return the medians of CPU and wall-clock seconds."""
    return Cost(statistics.median(c.cpu_s for c in costs), statistics.median(c.wall_s for c in costs))
