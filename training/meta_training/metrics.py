"""Means of metrics between two logs, throughput, and the share of time spent waiting for data."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from training.episodes.loader import DecodedEpisodes
from training.meta_training.collectives import Exchange


class Meter:
    """Accumulates metrics of steps on their device; only `flush` synchronises with it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._updates = self._steps = 0
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

    def add(self, metrics: Mapping[str, Tensor] | None) -> None:
        """Add a step's metrics, as this worker's summand of the sum over workers; None for a skipped step."""
        self._steps += 1
        if metrics is not None:
            self._updates += 1
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + value

    def flush(self, images_per_step: int) -> dict[str, float]:
        """Return the means since the last flush and reset. Apart from times they are equal on all workers."""
        means: dict[str, float] = {}
        if self._sums:
            stacked = torch.stack([value.float() for value in self._sums.values()])
            totals = self.exchange.sum_values(stacked).tolist()
            means = {name: total / self._updates for name, total in zip(self._sums, totals, strict=True)}
        seconds = time.perf_counter() - self._since
        means |= {
            "images_per_second": self._steps * images_per_step / seconds,
            "data_wait_share": self._waited / seconds,
            "workers": float(self.exchange.world_size),
        }
        self._reset()
        return means
