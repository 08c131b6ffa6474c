"""The result that every subcommand of `sfumato` returns, and its messages: on standard error, through rich."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich import filesize
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

PROGRESS_SECONDS = "SFUMATO_PROGRESS_SECONDS"
"""Environment variable: seconds between two lines of progress where standard error is no terminal; 0: no lines."""
_DEFAULT_SECONDS = 30.0
_SAMPLES_PER_LINE = 10


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
    """Return a progress display that counts items or bytes, on standard error.

    On a terminal it is a bar. Elsewhere, as in a log file, it writes one plain line every 30 seconds
    (`SFUMATO_PROGRESS_SECONDS`).

    Raises:
        ValueError: the environment variable is no number of seconds.
    """
    screen, seconds = console(), _seconds_between_lines()
    # FORCE_COLOR makes rich take a log for a terminal.
    if not (screen.is_interactive and _is_terminal()):
        return LineProgress(seconds, num_bytes=num_bytes)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if num_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
    )


def _seconds_between_lines() -> float:
    text = os.environ.get(PROGRESS_SECONDS, "")
    try:
        seconds = float(text) if text else _DEFAULT_SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{PROGRESS_SECONDS} has to be a number of seconds, at least 0, not {text!r}")
    return seconds


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


class LineProgress(Progress):
    """Progress as plain lines on standard error: every `seconds`, one line about the tasks that are not finished.

    A thread writes the lines, so that they come while nothing advances, too. It ends with the context. Errors of
    standard error are ignored. `disable` is True, as for all displays without a bar.

    Args:
        seconds: time between two lines and before the first; 0: no lines.
        num_bytes: whether tasks count bytes.
    """

    def __init__(self, seconds: float, *, num_bytes: bool = False) -> None:
        super().__init__(console=console(), disable=True)
        self._seconds, self._num_bytes = seconds, num_bytes
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        # When a task was first seen, and its count then: what was done before, as in an earlier run, is no rate.
        self._first_counts: dict[TaskID, tuple[float, float]] = {}

    def start(self) -> None:
        """Start to write lines."""
        if self._thread is None and self._seconds:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop to write lines."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)  # it may hang in a write to a pipe that nobody reads

    def reset(self, task_id: TaskID, **changes: Any) -> None:
        """Start a task anew; what it has completed then does not enter its rate. See `Progress.reset`."""
        super().reset(task_id, **changes)
        self._first_counts.pop(task_id, None)

    def _run(self) -> None:
        """Look at the tasks at short intervals, to note new ones, and write a line at long ones."""
        number = 0
        while not self._stopped.wait(self._seconds / _SAMPLES_PER_LINE):
            number += 1
            now = self.get_time()
            running = [task for task in self.tasks if task.total is None or task.completed < task.total]
            texts = [self._describe(task, now) for task in running]
            if number % _SAMPLES_PER_LINE == 0 and running:
                line = "".join(c if c.isprintable() else "?" for c in "; ".join(texts))  # names of files hold anything
                with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed, or None
                    sys.stderr.write(f"{line}\n")
                    sys.stderr.flush()

    def _describe(self, task: Task, now: float) -> str:
        since, first_count = self._first_counts.setdefault(task.id, (now, task.completed))
        rate = (task.completed - first_count) / (now - since) if now > since else 0.0
        count = self._number(float(task.completed))
        if task.total is not None:
            count += f" of {self._number(float(task.total))}"
        if task.total is None or rate <= 0:
            return f"{task.description}: {count}, after {_clock(float(task.elapsed or 0))}"
        left = max(float(task.total - task.completed), 0.0) / rate
        return f"{task.description}: {count}, {self._rate(rate)}, {_clock(left)} left"

    def _number(self, number: float) -> str:
        return filesize.decimal(round(number)) if self._num_bytes else f"{number:,.0f}"

    def _rate(self, per_second: float) -> str:
        if self._num_bytes:
            return f"{filesize.decimal(round(per_second))}/s"
        units = (("s", 1.0), ("min", 60.0), ("h", 3600.0))
        unit, scale = next((each for each in units if per_second * each[1] >= 1), units[-1])
        return f"{per_second * scale:.1f}/{unit}"


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds, such as 1:02:03, with days before where there are any."""
    return str(timedelta(seconds=round(seconds)))
