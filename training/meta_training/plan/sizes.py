"""Memory and checkpoints of a run, in bytes, from what a step was counted to need."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from training.config import TrainConfig
from training.meta_training.plan.counted_step import StepCounts

_FLOAT, _INT64 = 4, 8  # bytes


@dataclass(frozen=True)
class Sizes:
    """Bytes of a worker, by what they hold."""

    weights: int
    """E, G and D with their buffers, in float32."""
    loss_networks: int
    gradients: int
    """Of all networks, and for several workers the flat copy that they sum."""
    optimizers: int
    """Two moments of each weight; Adam keeps the first although beta1 is 0."""
    averages: int
    """Moving averages of E and G."""
    rows: int
    """Identity rows with their second moments and step counts. Every worker holds all."""
    activations: int
    """Computed: what autograd keeps for the episodes of one forward pass. Temporary tensors come on top."""
    snapshot: int
    """In host memory, of every worker: the copy to roll back to. Twice as much while the next one is made."""
    checkpoint: int
    """A checkpoint in which every row was learned, without the videos' ids."""

    @property
    def device(self) -> int:
        """Bytes of the device's memory."""
        of_host = ("snapshot", "checkpoint")
        return sum(size for name, size in asdict(self).items() if name not in of_host)


def sizes_of(config: TrainConfig, counts: StepCounts, num_rows: int, num_workers: int) -> Sizes:
    """Return the memory of the worker with the most episodes."""
    parameters, buffers = counts.parameters, counts.buffer_bytes
    learned = _FLOAT * sum(parameters.values())
    weights = learned + sum(buffers.values())
    averages = sum(_FLOAT * parameters[name] + buffers[name] for name in ("embedder", "generator"))
    flat = _FLOAT * max(parameters["embedder"] + parameters["generator"], parameters["discriminator"])
    rows = num_rows * (2 * _FLOAT * config.model.embedding_size + _INT64)
    episodes = episodes_at_once(config, num_workers)
    width = 2 if config.engine.precision == "bfloat16" else 1
    snapshot = weights + averages + 2 * learned + rows
    return Sizes(
        weights=weights,
        loss_networks=counts.loss_network_bytes,
        gradients=learned + (flat if num_workers > 1 else 0),
        optimizers=2 * learned,
        averages=averages,
        rows=rows,
        activations=episodes * counts.activation_bytes // width,
        snapshot=snapshot,
        checkpoint=snapshot,
    )


def episodes_of_worker(config: TrainConfig, num_workers: int) -> int:
    """Return the largest number of episodes that one of `num_workers` has in a step."""
    return -(-config.episodes_per_step // num_workers)


def episodes_at_once(config: TrainConfig, num_workers: int) -> int:
    """Return the number of episodes in one forward pass."""
    return min(episodes_of_worker(config, num_workers), config.engine.micro_batch or config.episodes_per_step)


def exchanged_bytes(config: TrainConfig, counts: StepCounts, num_workers: int) -> int:
    """Return the bytes that one worker gives to the others in a step; 0 for one worker."""
    if num_workers == 1:
        return 0
    return counts.gradient_bytes + episodes_of_worker(config, num_workers) * counts.row_bytes


def sent_bytes(config: TrainConfig, counts: StepCounts, num_workers: int) -> int:
    """Return the bytes that one worker sends in rings: 2 (N - 1) / N of the gradients, N - 1 times its rows."""
    if num_workers == 1:
        return 0
    rows = episodes_of_worker(config, num_workers) * counts.row_bytes * (num_workers - 1)
    return 2 * (num_workers - 1) * counts.gradient_bytes // num_workers + rows
