"""Seconds of an episode on this machine: timed for small networks, else from the rate of matrix products."""

from __future__ import annotations

import time

import torch

from training.config import TrainConfig
from training.losses.face_identity import load_recogniser
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import SingleProcess
from training.meta_training.plan.counted_step import random_batch
from training.meta_training.plan.device_flops import measure_flops
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

MOST_TIMED = 2e11
"""Operations of an episode above which a step is not timed: tens of seconds of a core."""
SHARE_OF_MATRIX_RATE = 0.87
"""Of `paper` (docs/explanation/performance.md)."""
COPY_BYTES_PER_SECOND = 1.68e9 / 0.7
"""Of a snapshot to host memory (docs/explanation/training.md)."""
_EPISODES = 2


def episode_seconds(config: TrainConfig, flops: int, device: torch.device) -> tuple[float, str]:
    """Return the seconds of one episode of a step, and whether they are measured or computed.

    Args:
        flops: operations of an episode.
    """
    if flops <= MOST_TIMED:
        return _timed(config, device), f"measured: a step of {_EPISODES} episodes of noise"
    rate = _matrix_rate(config, device)
    how = f"computed: {SHARE_OF_MATRIX_RATE:.0%} of the matrix rate measured here, {rate / 1e9:.0f} GFLOP/s"
    return flops / (SHARE_OF_MATRIX_RATE * rate), how


def _matrix_rate(config: TrainConfig, device: torch.device) -> float:
    """Return operations per second of all threads together; `measure_flops` gives those of a CPU per thread."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return threads * measure_flops(device, config.engine.precision)


def _timed(config: TrainConfig, device: torch.device) -> float:
    recogniser = load_recogniser() if config.losses.identity else None
    losses = LossNetworks(config.losses, PerceptualNetwork(config.perceptual), recogniser)
    table = IdentityRows(list(map(str, range(_EPISODES))), config.model.embedding_size, learning_rate=0.0)
    with torch.random.fork_rng(devices=[]):
        learner = Learner(config, table, losses, SingleProcess(), device)
        with torch.device(device):
            batch = random_batch(config, _EPISODES)
    seconds = []
    for _ in range(2):  # the first one allocates
        started = time.perf_counter()
        bool(learner.step(batch).finite)  # waits for the device
        seconds.append(time.perf_counter() - started)
    return min(seconds) / _EPISODES
