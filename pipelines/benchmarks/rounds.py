"""What benchmarks share: CPU seconds of ways that take turns, the machine, an outcome with figures."""

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
    """Seconds of one item: of all cores together, and on the clock."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class BenchmarkResult(CommandResult):
    """An outcome that carries its figures and their ratios into the JSON."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """One JSON object on one line."""
        plain = {**json.loads(super().to_json()), "figures": dict(self.figures), "ratios": dict(self.ratios)}
        return json.dumps(plain, ensure_ascii=False)


def measure_rounds(
    ways: Mapping[str, tuple[Callable[[], object], int]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[Cost]]:
    """Cost of an item each way in each of some rounds, in which every way has its turn.

    Args:
        ways: what to do, and how many items that makes.
        warm_up: whether a first round, which fills caches, is done and does not count.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    with progress() as bar:
        task = bar.add_task("rounds", total=(rounds + warm_up) * len(ways))
        for number in range(rounds + warm_up):
            for name, (act, num_items) in ways.items():
                cpu, wall = cpu_seconds(), time.perf_counter()
                act()
                cost = Cost((cpu_seconds() - cpu) / num_items, (time.perf_counter() - wall) / num_items)
                if number >= warm_up:
                    costs[name].append(cost)
                bar.advance(task)
    return costs


def measure_interleaved(
    ways: Mapping[str, tuple[Callable[[], object], int]], rounds: int, *, warm_up: bool = True
) -> dict[str, Cost]:
    """Median cost of an item each way; see `measure_rounds`."""
    return {name: median(found) for name, found in measure_rounds(ways, rounds, warm_up=warm_up).items()}


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each kind of seconds."""
    return Cost(statistics.median(c.cpu_s for c in costs), statistics.median(c.wall_s for c in costs))
