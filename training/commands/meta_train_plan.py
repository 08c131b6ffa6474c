"""`sfumato meta-train ... --plan`: print what a run needs, without training and without Ray."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.table import Table

from pipelines.cli import CommandResult, console
from training.commands.meta_train_options import Options
from training.config import TrainConfig
from training.meta_training.plan.cards import CARDS, LAUNCH_SECONDS, UTILISATION
from training.meta_training.plan.report import Plan, make_plan

VOXCELEB2_VIDEOS = 145_569


@dataclass(frozen=True)
class PlanResult(CommandResult):
    """A command result with the plan's numbers, which are part of its JSON."""

    plan: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object on one line."""
        return json.dumps({**json.loads(super().to_json()), "plan": dict(self.plan)}, ensure_ascii=False)


def plan(options: Options, config: TrainConfig, num_rows: int | None) -> PlanResult:
    """Plan the run of these options and print the tables.

    Args:
        num_rows: number of videos or synthetic people; None: no data was named, VoxCeleb2's number.

    Raises:
        ValueError: see `Options.num_workers_of`.
    """
    started = time.monotonic()
    rows = VOXCELEB2_VIDEOS if num_rows is None else num_rows
    device = torch.device("cuda" if options.gpus and torch.cuda.is_available() else "cpu")
    made = make_plan(config, rows, options.num_workers_of(config.episodes_per_step)[0], device)
    console().print(_worker_table(made))
    console().print(_cards_table(made))
    notes = [
        f"an episode takes {made.episode_seconds:.2f} s on this machine ({made.how})",
        "activations are computed; temporary tensors and libraries' workspaces come on top",
        f"cards are an estimate: {UTILISATION[1]:.0%} to {UTILISATION[0]:.0%} of the data sheet's rate, "
        f"{LAUNCH_SECONDS[0] * 1e6:.0f} to {LAUNCH_SECONDS[1] * 1e6:.0f} µs an operation; none was measured on a GPU",
    ]
    if any(each.limit == "identity rows" for each in made.on_cards):
        notes.append(
            f"every card holds all identity rows, {in_bytes(made.sizes.rows)}: they are not divided among cards"
        )
    if num_rows is None:
        notes.append(f"no data was named: {rows:,} identity rows, one per video of VoxCeleb2")
    numbers = {**asdict(made), "cards": {name: asdict(card) for name, card in CARDS.items()}}
    counts = {"steps": made.num_steps, "rows": rows, "workers": made.num_workers}
    return PlanResult((), counts, time.monotonic() - started, notes=tuple(notes), plan=numbers)


def _worker_table(made: Plan) -> Table:
    table = Table(title="A worker", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    names = ("embedder", "generator", "discriminator")
    table.add_row("parameters of E, G, D", " + ".join(f"{made.counts.parameters[name]:,}" for name in names))
    for name, size in asdict(made.sizes).items():
        if name not in ("snapshot", "checkpoint"):
            table.add_row(f"memory of {name.replace('_', ' ')}", in_bytes(size))
    table.add_row("memory of the device together", in_bytes(made.sizes.device))
    table.add_row("snapshot in host memory", in_bytes(made.sizes.snapshot))
    table.add_row("given to the other workers a step", in_bytes(made.exchanged))
    table.add_row("operations of an episode", f"{made.counts.flops / 1e12:.3f} TFLOP")
    table.add_row("steps, epochs", f"{made.num_steps:,}, {made.num_epochs:.1f}")
    table.add_row("checkpoints", f"{made.num_checkpoints:,} of {in_bytes(made.sizes.checkpoint)}")
    table.add_row("pause for a checkpoint", f"{made.pause_seconds:.1f} s")
    table.add_row("this machine, all steps", _hours(made.hours))
    return table


def _cards_table(made: Plan) -> Table:
    table = Table(title="On cards, in bfloat16 (an estimate)", title_justify="left")
    for column in ("card", "cards", "episodes", "memory", "sent", "s a step", "hours"):
        table.add_column(column, justify="left" if column == "card" else "right")
    for each in made.on_cards:
        step, hours = (f"{low:.3g}-{high:.3g}" for low, high in (each.step_seconds, each.hours))
        if not each.fits:
            step, hours = "no room", "--micro-batch" if each.limit == "activations" else each.limit
        cells = str(each.num_cards), str(each.episodes), in_bytes(each.memory), in_bytes(each.sent)
        table.add_row(each.card, *cells, step, hours)
    return table


def in_bytes(number: int) -> str:
    """Return a number of bytes in kB, MB, GB or TB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number / 1e3:.1f} kB"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 0.1 else f"{60 * hours:.1f} min"
