"""Estimated seconds of a step on cards that nothing was measured on: from their data sheets and assumed shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.config import TrainConfig
from training.meta_training.plan.counted_step import StepCounts
from training.meta_training.plan.sizes import episodes_at_once, episodes_of_worker, sent_bytes


@dataclass(frozen=True)
class Card:
    """A GPU as its data sheet has it."""

    flops: float
    """Operations per second of dense bfloat16 matrix products."""
    memory: int
    """Bytes."""
    link: float
    """Bytes per second to another card of the machine, one way."""
    source: str


CARDS: Mapping[str, Card] = {
    "L4": Card(121e12, 24 * 10**9, 32e9, "NVIDIA L4 data sheet: 242 TFLOPS with sparsity, PCIe Gen4 x16 64 GB/s"),
    "A100": Card(312e12, 80 * 10**9, 300e9, "NVIDIA A100 80GB SXM data sheet: 312 TFLOPS, NVLink 600 GB/s"),
    "H100": Card(989e12, 80 * 10**9, 450e9, "NVIDIA H100 SXM data sheet: 1,979 TFLOPS with sparsity, NVLink 900 GB/s"),
}
UTILISATION = (0.40, 0.15)
"""Assumed best and worst share of the data sheet's rate. A CPU reaches 76 to 87 % of its matrix rate; small
convolutions of a fast card reach less."""
LAUNCH_SECONDS = (5e-6, 10e-6)
"""Assumed best and worst seconds between two kernels that Python launches, without --compile."""
CARDS_PER_MACHINE = 8
NETWORK = 12.5e9
"""Bytes per second between machines: 100 Gbit/s."""


def step_seconds(config: TrainConfig, counts: StepCounts, card: Card, num_cards: int) -> tuple[float, float]:
    """Return the best and the worst estimate of a step's seconds on `num_cards`.

    A step takes the longer of its operations and its launches. The exchange of gradients is hidden behind them in the
    best case and comes on top in the worst.
    """
    link = card.link if num_cards <= CARDS_PER_MACHINE else min(card.link, NETWORK)
    exchange = sent_bytes(config, counts, num_cards) / link
    episodes = episodes_of_worker(config, num_cards)
    passes = -(-episodes // episodes_at_once(config, num_cards))
    best, worst = (
        max(counts.flops * episodes / (card.flops * share), counts.launches * passes * launch)
        for share, launch in zip(UTILISATION, LAUNCH_SECONDS, strict=True)
    )
    return max(best, exchange), worst + exchange
