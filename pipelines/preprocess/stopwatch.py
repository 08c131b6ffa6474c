"""Measure wall-clock seconds per stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """`with watch("decode"): ...` adds to `seconds["decode"]`. Time of a nested stage is not the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            inner = self._inner.pop()
            self._inner[-1] += spent
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - inner
