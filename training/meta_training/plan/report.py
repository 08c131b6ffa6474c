"""The plan of a run as data: what `sfumato meta-train --plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from training.config import TrainConfig
from training.meta_training.plan.cards import CARDS, step_seconds
from training.meta_training.plan.counted_step import StepCounts, count_step
from training.meta_training.plan.sizes import Sizes, episodes_of_worker, exchanged_bytes, sent_bytes, sizes_of
from training.meta_training.plan.this_machine import COPY_BYTES_PER_SECOND, episode_seconds

_NUM_CARDS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class OnCards:
    """A run on some cards of one kind, in bfloat16: an estimate, nothing was measured on a GPU."""

    card: str
    num_cards: int
    episodes: int
    """Most episodes of a card in a step."""
    memory: int
    """Bytes of a card's memory that are needed, without temporary tensors."""
    fits: bool
    limit: Literal["", "activations", "identity rows", "weights"]
    """What does not fit: activations, which micro-batches reduce, or else the largest of what they do not."""
    exchanged: int
    """Bytes that a card gives to the others in a step."""
    sent: int
    """Bytes that it sends in rings."""
    step_seconds: tuple[float, float]
    """Best and worst estimate."""
    hours: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """What a run needs."""

    counts: StepCounts
    num_rows: int
    num_workers: int
    sizes: Sizes
    """Of a worker, in the run's precision."""
    exchanged: int
    """Bytes that a worker gives to the others in a step."""
    num_steps: int
    num_epochs: float
    num_checkpoints: int
    pause_seconds: float
    """Pause of the steps for a checkpoint, at the rate measured on a CPU."""
    episode_seconds: float
    """On this machine, with all its cores."""
    how: str
    """Whether that is measured or computed."""
    hours: float
    """On this machine."""
    on_cards: Sequence[OnCards]


def make_plan(config: TrainConfig, num_rows: int, num_workers: int, device: torch.device) -> Plan:
    """Plan a run.

    Args:
        num_rows: number of identity rows: of videos, or of synthetic people.
        device: of this machine, to measure on.

    Raises:
        AssetError, OSError: see `count_step`.
    """
    counts = count_step(config)
    sizes = sizes_of(config, counts, num_rows, num_workers)
    seconds, how = episode_seconds(config, counts.flops, device)
    numbers = sorted({n for n in (*_NUM_CARDS, num_workers) if n <= config.episodes_per_step})
    return Plan(
        counts=counts,
        num_rows=num_rows,
        num_workers=num_workers,
        sizes=sizes,
        exchanged=exchanged_bytes(config, counts, num_workers),
        num_steps=config.num_steps,
        num_epochs=config.num_steps * config.episodes_per_step / num_rows,
        num_checkpoints=-(-config.num_steps // config.checkpoint_every),
        pause_seconds=sizes.snapshot / COPY_BYTES_PER_SECOND,
        episode_seconds=seconds,
        how=how,
        hours=config.num_steps * config.episodes_per_step * seconds / 3600,
        on_cards=[on_cards(config, counts, num_rows, name, number) for name in CARDS for number in numbers],
    )


def on_cards(config: TrainConfig, counts: StepCounts, num_rows: int, name: str, num_cards: int) -> OnCards:
    """Estimate a run on cards of `CARDS`."""
    config = replace(config, engine=replace(config.engine, precision="bfloat16"))
    card, sizes = CARDS[name], sizes_of(config, counts, num_rows, num_cards)
    memory, fixed = sizes.device, sizes.device - sizes.activations
    limit: Literal["", "activations", "identity rows", "weights"] = ""
    if fixed > card.memory:
        limit = "identity rows" if 2 * sizes.rows > fixed else "weights"
    elif memory > card.memory:
        limit = "activations"
    best, worst = step_seconds(config, counts, card, num_cards)
    return OnCards(
        card=name,
        num_cards=num_cards,
        episodes=episodes_of_worker(config, num_cards),
        memory=memory,
        fits=not limit,
        limit=limit,
        exchanged=exchanged_bytes(config, counts, num_cards),
        sent=sent_bytes(config, counts, num_cards),
        step_seconds=(best, worst),
        hours=(config.num_steps * best / 3600, config.num_steps * worst / 3600),
    )
