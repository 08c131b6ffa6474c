"""The result that every subcommand of `sfumato` returns, and its messages: on standard error, through rich."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
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

from pipelines import log_lines

PROGRESS_SECONDS = "SFUMATO_PROGRESS_SECONDS"
"""Environment variable: seconds between two lines of progress where standard error is no terminal; 0: no lines."""
_DEFAULT_SECONDS = 30.0
_SAMPLES_PER_LINE = 10
_MESSAGE_COLUMNS = 200  # of a table in a JSON object, which no terminal limits


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
    """Return the console for all messages: standard error, so that standard output holds only results.

    With `--log-format json` each `print` becomes one object of severity INFO; see `log_lines`.
    """
    if (lines := log_lines.json_lines()) is not None:
        file = log_lines.MessageLines(lines)
        return Console(file=file, highlight=False, soft_wrap=True, width=_MESSAGE_COLUMNS, force_terminal=False)  # type: ignore[arg-type]
    return Console(stderr=True, highlight=False, soft_wrap=True)


def warn(message: str, **fields: object) -> None:
    """Print a note that something is not as wanted, while the work goes on.

    Args:
        fields: what it is about, for `--log-format json`; such as `video`.
    """
    log_lines.write("WARNING", message, f"note: {message}", fields)


def progress(*, num_bytes: bool = False) -> Progress:
    """Return a progress display that counts items or bytes, on standard error.

    On a terminal it is a bar. Elsewhere, as in a log file, it writes one plain line every 30 seconds
    (`SFUMATO_PROGRESS_SECONDS`), or with `--log-format json` one object for each task.

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


@dataclass(frozen=True)
class _TaskState:
    """How far a task is, in items or bytes."""

    task: str
    done: float
    total: float | None
    per_second: float
    seconds: float
    """Since it began."""

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or self.per_second <= 0:
            return None
        return max(self.total - self.done, 0.0) / self.per_second

    def fields(self) -> dict[str, object]:
        """Return them for an object of `--log-format json`."""
        values = {
            "task": self.task,
            "done": self.done,
            "total": self.total,
            "per_second": round(self.per_second, 3),
            "seconds": round(self.seconds, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }
        return {name: value for name, value in values.items() if value is not None}


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
            states = [self._state(task, now) for task in running]
            if number % _SAMPLES_PER_LINE == 0 and running:
                self._write(states)

    def _write(self, states: Sequence[_TaskState]) -> None:
        if log_lines.json_lines() is None:
            log_lines.write("INFO", _printable("; ".join(map(self._describe, states))))
            return
        for state in states:
            log_lines.write("INFO", _printable(self._describe(state)), fields=state.fields())

    def _state(self, task: Task, now: float) -> _TaskState:
        since, first_count = self._first_counts.setdefault(task.id, (now, task.completed))
        rate = (task.completed - first_count) / (now - since) if now > since else 0.0
        total = None if task.total is None else float(task.total)
        return _TaskState(task.description, float(task.completed), total, rate, float(task.elapsed or 0))

    def _describe(self, state: _TaskState) -> str:
        count = self._number(state.done)
        if state.total is not None:
            count += f" of {self._number(state.total)}"
        if state.seconds_left is None:
            return f"{state.task}: {count}, after {_clock(state.seconds)}"
        return f"{state.task}: {count}, {self._rate(state.per_second)}, {_clock(state.seconds_left)} left"

    def _number(self, number: float) -> str:
        return filesize.decimal(round(number)) if self._num_bytes else f"{number:,.0f}"

    def _rate(self, per_second: float) -> str:
        if self._num_bytes:
            return f"{filesize.decimal(round(per_second))}/s"
        units = (("s", 1.0), ("min", 60.0), ("h", 3600.0))
        unit, scale = next((each for each in units if per_second * each[1] >= 1), units[-1])
        return f"{per_second * scale:.1f}/{unit}"


def _printable(line: str) -> str:
    """Return a line without characters that would break it: names of files hold anything."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds, such as 1:02:03, with days before where there are any."""
    return str(timedelta(seconds=round(seconds)))
