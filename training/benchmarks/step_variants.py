"""The steps that `sfumato bench train` measures: ours, with few and many identity rows, and the reproductions'."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from training.benchmarks.networks_only import NetworksOnly
from training.benchmarks.reference_step import ReferenceData, ReferenceStep, reference_batches, write_files
from training.checkpoints.bundle import TrainingProvenance
from training.config import TrainConfig
from training.episodes.batch import Batch, to_batch
from training.episodes.loader import EpisodeLoader
from training.episodes.source import DatasetSource
from training.losses.loss_networks import load_loss_networks
from training.losses.perceptual import load_perceptual
from training.meta_training.collectives import SingleProcess
from training.meta_training.loop import Request, train
from training.meta_training.step import Learner, Snapshot
from training.models.identity_rows import IdentityRows

FEW_ROWS = 1_000
_MOST_FILES_OF_VIDEOS = 64


class CountingExchange(SingleProcess):
    """Counts the bytes that a worker would send to the others."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        self.num_bytes += sum(_num_bytes(each.grad) for each in parameters if each.grad is not None)
        return super().sum_gradients(parameters)

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"], num_episodes: int
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        self.num_bytes += _num_bytes(indices) + _num_bytes(gradients)
        return super().gather_rows(indices, gradients, num_episodes)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class SfumatoStep:
    """A learner on real episodes, with one table of many identity rows and one of few."""

    def __init__(
        self, config: TrainConfig, data: DatasetSource, loader: EpisodeLoader, num_rows: int, device: torch.device
    ):
        self.config, self.loader, self.device = config, loader, device
        video_ids = [video.video_id for video in data.videos]
        self.many, self.few = (_table(config, video_ids, rows).to(device) for rows in (num_rows, FEW_ROWS))
        self.exchange = CountingExchange()
        self.learner = Learner(config, self.many, load_loss_networks(config), self.exchange, device)
        self._steps = itertools.count()
        self.batch = self.feed()
        self.networks = NetworksOnly(self.learner, self.batch)

    def feed(self) -> Batch:
        """Read, decode and prepare a batch synchronously."""
        return to_batch(self.loader.load(next(self._steps)), self.many, self.config.model, self.device)

    def step(self, table: IdentityRows) -> int:
        """Make one step with the given table; return the bytes that would be sent to other workers."""
        self.learner.table, self.exchange.num_bytes = table, 0
        self.learner.step(self.batch)
        return self.exchange.num_bytes


def _table(config: TrainConfig, video_ids: list[str], num_rows: int) -> IdentityRows:
    """Return identity rows of the videos, filled up to `num_rows` with rows that no episode uses."""
    others = [f"no video/{number}" for number in range(num_rows - len(video_ids))]
    size, rate = config.model.embedding_size, config.learning_rate_discriminator
    return IdentityRows([*video_ids, *others], size, learning_rate=rate, seed=config.seed)


class ReferenceVariant:
    """The reproductions' loader and step on the same videos; see `reference_step`."""

    def __init__(
        self, config: TrainConfig, data: DatasetSource, num_rows: int, device: torch.device, folder: Path
    ) -> None:
        config = replace(config, model=replace(config.model, warp_prior=False))
        write_files(data.dataset, data.videos[:_MOST_FILES_OF_VIDEOS], folder)
        files = ReferenceData(folder, config.num_shots + 1, config.model)
        self._batches: Iterator[tuple[Tensor, Tensor, Tensor]] = reference_batches(
            files, config.episodes_per_step, device
        )
        self._step = ReferenceStep(config, load_perceptual(config), num_rows, device)
        self._batch = self.feed()

    def feed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next batch of the DataLoader."""
        return next(self._batches)

    def step(self) -> None:
        """Make one step on a batch that is already loaded."""
        self._step(*self._batch)


def synchronised(act: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Wrap a function so that it waits for the device."""

    def run() -> None:
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


@dataclass
class _Waits:
    """An observer of the loop that records the share of each step spent waiting for data."""

    shares: list[float]

    def request(self, step: int) -> Request:
        del step
        return Request.NOTHING

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step > 1:  # the first step waits for the loader to start
            self.shares.append(metrics["data_wait_share"])

    def sample(self, step: int, grid: UInt8[np.ndarray, "h w 3"], metrics: Mapping[str, float]) -> None:
        """Ignore samples."""

    def checkpoint(
        self, snapshot: Snapshot, origin: TrainingProvenance, metrics: Mapping[str, float], *, urgent: bool
    ) -> None:
        """Write nothing."""


def data_wait_shares(config: TrainConfig, data: DatasetSource, steps: int, device: torch.device) -> list[float]:
    """Return the share of each step's time that the training loop waits for data."""
    waits = _Waits([])
    often = {"log_every": 1, "sample_every": steps + 2, "checkpoint_every": steps + 2}
    config = replace(config, num_steps=steps + 1, **often)  # type: ignore[arg-type]
    train(config, data, waits, SingleProcess(), device, None)
    return waits.shares
