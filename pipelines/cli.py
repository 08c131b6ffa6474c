"""What every verb of the `sfumato` command returns and how it talks: on standard error, through rich."""

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
    """Something a verb made: what it is and the path or URL where it lies."""

    what: str
    where: str


@dataclass(frozen=True)
class CommandResult:
    """The result of one verb.

    `ok` is False when nothing usable came out (exit code 1). `notes` are one-line warnings or reasons for the user.
    """

    made: tuple[Artefact, ...]
    counts: Mapping[str, int]
    seconds: float
    ok: bool = True
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One JSON object on one line, keys in a fixed order."""
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
        """A few lines for people: the notes, then what was made and where, then counts and seconds."""
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"{artefact.what}: {artefact.where}" for artefact in self.made]
        counts = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        lines.append(f"{counts or 'done'} in {self.seconds:.1f} s")
        return "\n".join(lines)


def console() -> Console:
    """The console all messages go to: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress(*, num_bytes: bool = False) -> Progress:
    """The one look of progress bars, counting things or bytes. Silent where standard error is no terminal."""
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
