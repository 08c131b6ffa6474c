"""`sfumato export MODEL -o OUT`: a base model without what only training needs, in half precision."""

import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from training.checkpoints.export import export_bundle


@dataclass(frozen=True)
class Options:
    """Make a base model small enough to hand on: a fifth of its size, for fine-tuning, animating and serving."""

    model: tyro.conf.Positional[str]
    """Base model or checkpoint: the folder or URL that `sfumato meta-train` wrote."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Where the small one goes: a folder or URL."""
    card: str | None = None
    """Markdown file with a model card in place of the one beside MODEL; the list of files is put at its end."""


def run(options: Options) -> CommandResult:
    """Export.

    Raises:
        FileNotFoundError: the model or the card does not exist.
        ValueError: the model is none, or damaged.
    """
    started = time.monotonic()
    card = None
    if options.card is not None:
        if not storage.exists(options.card):
            raise FileNotFoundError(f"{options.card} does not exist")
        try:
            card = storage.read_bytes(options.card).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{options.card} is no Markdown: it is not UTF-8") from None
    size = export_bundle(options.model, options.out, card)
    return CommandResult(
        made=(Artefact("base model", options.out),), counts={"bytes": size}, seconds=time.monotonic() - started
    )
