"""`sfumato export MODEL -o OUT`: write the part of a base model that inference needs, in half precision."""

import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from training.checkpoints.export import export_bundle
from training.checkpoints.model_registry import locate


@dataclass(frozen=True)
class Options:
    """Reduce a base model to what fine-tuning, animating and serving need: about a fifth of its size."""

    model: tyro.conf.Positional[str]
    """Base model or checkpoint: folder or URL that `sfumato meta-train` wrote, or models:/NAME@ALIAS in the MLflow
    registry."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder or URL to write the exported model to."""
    card: str | None = None
    """Markdown file to use as the model card instead of MODEL's README.md; the list of files is appended."""


def run(options: Options) -> CommandResult:
    """Export the model.

    Raises:
        FileNotFoundError: the model or the card does not exist.
        ValueError: MODEL is no base model, or is damaged.
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
    size = export_bundle(locate(options.model), options.out, card)
    return CommandResult(
        made=(Artefact("base model", options.out),), counts={"bytes": size}, seconds=time.monotonic() - started
    )
