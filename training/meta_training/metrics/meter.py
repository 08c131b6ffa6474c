"""Means of metrics between two logs, throughput, and the share of time spent waiting for data."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from training.episodes.loader import DecodedEpisodes
from training.meta_training.collectives import Exchange
from training.meta_training.step import Outcome


class Meter:
    """Accumulates metrics of steps on their device; only `flush` synchronises with it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._reset()

    def _reset(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        """Of the metrics of finite steps, and last the number of these steps."""
        self._steps = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def waiting(self, batches: Iterator[DecodedEpisodes]) -> Iterator[DecodedEpisodes]:
        """Yield the batches, and count the time spent waiting for them."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def add(self, outcome: Outcome) -> None:
        """Add a step's metrics, as this worker's summand of the sum over workers, unless the step was not finite."""
        self._steps += 1
        self._names = tuple(outcome.metrics)
        values = torch.stack([*(value.float() for value in outcome.metrics.values()), outcome.finite.float()])
        values = torch.where(outcome.finite, values, 0.0)
        self._sums = values if self._sums is None else self._sums + values

    def flush(self, images_per_step: int) -> dict[str, float]:
        """Return the means since the last flush and reset. Apart from times they are equal on all workers."""
        means: dict[str, float] = {}
        if self._sums is not None:
            *totals, updates = self.exchange.sum_values(self._sums).tolist()
            updates /= self.exchange.world_size  # every worker counts each
            means = {name: total / updates for name, total in zip(self._names, totals, strict=True) if updates}
        seconds = time.perf_counter() - self._since
        means |= {
            "images_per_second": self._steps * images_per_step / seconds,
            "data_wait_share": self._waited / seconds,
            "workers": float(self.exchange.world_size),
        }
        self._reset()
        return means
