"""What a run says at its end: a table of outcomes on the terminal, and the command's result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from pipelines import cli, storage
from serving.batch.results.report import Row, Status
from serving.batch.results.sidecars import Sidecar

MAX_SHOWN = 20
"""Failures in the table, and results and notes in the summary; the report and the contact page have all."""

_LABELS = {".side-by-side.mp4": "side by side", ".mosaic.mp4": "mosaic"}
_STATUSES: tuple[Status, ...] = ("done", "skipped", "failed")


class BatchResult(cli.CommandResult):
    """The result of a batch, whose summary for people is short however many videos there are."""

    def summary(self) -> str:
        shown = [f"note: {note}" for note in self.notes[:MAX_SHOWN]]
        shown += _more(len(self.notes), "notes")
        shown += [f"{artefact.what}: {artefact.where}" for artefact in self.made[:MAX_SHOWN]]
        shown += _more(len(self.made), "files")
        shown.append(f"{', '.join(f'{number} {name}' for name, number in self.counts.items())} in {self.seconds:.1f} s")
        return "\n".join(shown)


def _more(number: int, what: str) -> list[str]:
    return [f"... and {number - MAX_SHOWN:,} more {what}"] if number > MAX_SHOWN else []


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return the numbers of rows by status."""
    found = Counter(row.status for row in rows)
    return {status: found[status] for status in _STATUSES}


def failures(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the failed items by reason, in order: a driver without a face is one line, not one for each source."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "failed":
            found.setdefault(row.reason or "", []).append(row.item)
    return found


def table(rows: Sequence[Row]) -> Table:
    """Return the table of a run: counts, then the reasons of failures, at most `MAX_SHOWN`."""
    shown = Table("", "videos", "", box=None, pad_edge=False)
    shown.columns[1].justify = "right"
    for status, number in counts(rows).items():
        shown.add_row(status, f"{number:,}", "")
    reasons = failures(rows)
    for reason, items in list(reasons.items())[:MAX_SHOWN]:
        shown.add_row("", f"{len(items):,}", Text(_failure(reason, items)))
    if len(reasons) > MAX_SHOWN:
        shown.add_row("", "", f"... and {len(reasons) - MAX_SHOWN:,} more reasons")
    return shown


def _failure(reason: str, items: Sequence[str]) -> str:
    """Return a line that names the first of the failed items and the reason of all."""
    more = f" and {len(items) - 1:,} more" if len(items) > 1 else ""
    return reason if reason.startswith(items[0]) else f"{items[0]}{more}: {reason}"


def result(
    out: str,
    rows: Sequence[Row],
    sidecars: Mapping[str, Sidecar],
    extra: Sequence[cli.Artefact],
    notes: Sequence[str],
    seconds: float,
) -> BatchResult:
    """Return the command's result; not ok when there is no video.

    Args:
        sidecars: of the finished videos and mosaics.
        extra: further outputs, listed first.
        notes: lines about finished videos; the reasons of failures are added.
    """
    made = [
        cli.Artefact(_label(file), storage.join(out, file)) for sidecar in sidecars.values() for file in sidecar.files
    ]
    number = counts(rows)
    ok = number["done"] + number["skipped"] > 0
    failed = (_failure(reason, items) for reason, items in failures(rows).items())
    return BatchResult((*extra, *made), number, seconds, ok, (*notes, *failed))


def _label(file: str) -> str:
    return next((label for ending, label in _LABELS.items() if file.endswith(ending)), "video")
