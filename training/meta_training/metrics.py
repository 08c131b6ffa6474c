"""Means of metrics between two logs, and where the time went."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from training.episodes.loader import DecodedEpisodes
from training.meta_training.collectives import Exchange


class Meter:
    """Adds up what each step says; nothing is read from the device before `flush`."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._updates = self._steps = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def waiting(self, batches: Iterator[DecodedEpisodes]) -> Iterator[DecodedEpisodes]:
        """The same batches; the time it took to get each is waited time."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def add(self, metrics: Mapping[str, Tensor] | None) -> None:
        """A step's metrics, as this worker's part of their sum over workers; None for a step that was skipped."""
        self._steps += 1
        if metrics is not None:
            self._updates += 1
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + value

    def flush(self, images_per_step: int) -> dict[str, float]:
        """The means since the last flush, the same on every worker but for times; starts anew."""
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
