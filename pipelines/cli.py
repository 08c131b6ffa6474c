"""The result that every subcommand of `sfumato` returns, and its messages: on standard error, through rich."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)


@dataclass(frozen=True)
class Artefact:
    """An output of a subcommand: what it is, and its path or URL."""

    what: str
    where: str


@dataclass(frozen=True)
class CommandResult:
    """The result of one subcommand.

    `ok` is False when there is no usable output (exit code 1). `notes` are one-line warnings or reasons for the user.
    """

    made: tuple[Artefact, ...]
    counts: Mapping[str, int]
    seconds: float
    ok: bool = True
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return one JSON object on one line, keys in a fixed order."""
        return json.dumps(
            {
                "ok": self.ok,
                "made": [{"what": artefact.what, "where": artefact.where} for artefact in self.made],
                "counts": dict(self.counts),
                "seconds": round(self.seconds, 3),
                "notes": list(self.notes),
            },
            ensure_ascii=False,
        )

    def summary(self) -> str:
        """Return a few lines for people: the notes, the outputs with their paths, then counts and seconds."""
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"{artefact.what}: {artefact.where}" for artefact in self.made]
        counts = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        lines.append(f"{counts or 'done'} in {self.seconds:.1f} s")
        return "\n".join(lines)


def console() -> Console:
    """Return the console for all messages: standard error, so that standard output holds only results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress(*, num_bytes: bool = False) -> Progress:
    """Return a progress bar that counts items or bytes. It shows nothing where standard error is not a terminal."""
    screen = console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if num_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
