"""Messages as one JSON object a line (`--log-format json`), for machines that collect logs.

`messages_as` and `install` replace `sys.stderr`, the handlers of `logging` and Python's warnings, so that all that
this process writes to standard error becomes objects with these fields:

- `time`: RFC 3339, UTC
- `severity`: a level of Google Cloud's structured logging, which reads `time`, `severity`, `message` and `httpRequest`
  (https://cloud.google.com/logging/docs/structured-logging)
- `message`: the text, which may have several lines
- `command`: the verb, where one is at work
- `logger`: the module, of messages from `logging`
- `stack_trace`: a traceback, where there is one
- whatever a message is about: `job`, `step`, `done`, ...

It imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LOG_FORMAT = "SFUMATO_LOG_FORMAT"
"""Environment variable: text or json; child processes and Ray's workers take it from there."""
FORMATS = ("text", "json")
_TEXT_FORMAT = "%(levelname)s %(name)s: %(message)s"
_PLAIN_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

Severity = Literal["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"]


class JsonLines(io.TextIOBase):
    """A text stream that writes each line it is given to `stream` as an object of severity DEFAULT.

    It stands in for `sys.stderr`: libraries print there, too. `entry` writes an object of the caller's own.
    """

    def __init__(self, stream: Any, command: str = "") -> None:
        super().__init__()
        self.stream, self._command = stream, command
        self._lock = threading.RLock()
        self._begun = ""

    def entry(self, severity: Severity, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Write one object. Errors of the stream are ignored: a closed log must not end the work."""
        from pipelines.one_line import hide_credentials

        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        values: dict[str, object] = {"time": now, "severity": severity, "message": hide_credentials(message)}
        values |= {"command": self._command} if self._command else {}
        line = json.dumps(values | {**(fields or {})}, default=str)
        with self._lock, contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            self.stream.write(f"{line}\n")
            self.stream.flush()

    def write(self, text: str) -> int:
        """Write the complete lines of what has been written so far."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in filter(None, map(str.rstrip, lines)):
                self.entry("DEFAULT", line)
        return len(text)

    def close_line(self) -> None:
        """End a line that has begun."""
        if self._begun:
            self.write("\n")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        """The descriptor below, for programs started with this stream."""
        return int(self.stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self.stream.encoding)


class MessageLines(io.TextIOBase):
    """A text stream that makes one object of severity INFO of all that is written until it is flushed.

    A rich Console flushes after each `print`, so that a table is one object.
    """

    def __init__(self, lines: JsonLines) -> None:
        super().__init__()
        self._lines, self._parts = lines, list[str]()

    def write(self, text: str) -> int:
        """Keep the text."""
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        """Write what was kept."""
        text, self._parts = "".join(self._parts), []
        if message := "\n".join(line.rstrip() for line in text.split("\n")).strip("\n ─"):
            self._lines.entry("INFO", message)


class _Handler(logging.Handler):
    """Writes records of `logging`; what a call passes as `extra` becomes fields."""

    def __init__(self, lines: JsonLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {"logger": record.name}
            fields |= {name: value for name, value in vars(record).items() if name not in _PLAIN_RECORD}
            if record.exc_info:
                fields["stack_trace"] = logging.Formatter().formatException(record.exc_info)
            self._lines.entry(_severity(record.levelno), record.getMessage().strip(), fields)
        except Exception:  # noqa: BLE001 - a message that cannot be formatted must not end the work
            self.handleError(record)


def _severity(level: int) -> Severity:
    names: tuple[tuple[int, Severity], ...] = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))
    return next((name for least, name in names if level >= least), "DEBUG")


def log_format() -> str:
    """Return the format that the environment asks for; text by default.

    Raises:
        ValueError: it is neither text nor json.
    """
    chosen = os.environ.get(LOG_FORMAT) or "text"
    if chosen not in FORMATS:
        raise ValueError(f"{LOG_FORMAT} has to be one of {', '.join(FORMATS)}, not {chosen!r}")
    return chosen


def take_log_format(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the format of the last `--log-format`, else `log_format()`, and the other arguments.

    Raises:
        ValueError: the flag's value, or without a flag the variable's, is neither text nor json.
    """
    rest = list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    own, others = rest[:end], rest[end:]
    chosen: str | None = None
    while (at := next((place for place, word in enumerate(own) if _is_flag(word)), None)) is not None:
        word, equals, value = own[at].partition("=")
        chosen = value if equals else own[at + 1] if at + 1 < len(own) else ""
        del own[at : at + (1 if equals else 2)]
        if chosen not in FORMATS:
            raise ValueError(f"{word} has to be one of {', '.join(FORMATS)}, not {chosen!r}")
    return chosen or log_format(), own + others


def _is_flag(word: str) -> bool:
    return word.partition("=")[0].replace("_", "-") == "--log-format"


def json_lines() -> JsonLines | None:
    """Return the stream of objects, or None where messages are text."""
    return sys.stderr if isinstance(sys.stderr, JsonLines) else None


def write(
    severity: Severity, message: str, text: str | None = None, fields: Mapping[str, object] | None = None
) -> None:
    """Write one message: an object with `fields`, or the line `text` (default: `message`) where messages are text."""
    if (lines := json_lines()) is not None:
        lines.entry(severity, message, fields)
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed, or None
        sys.stderr.write(f"{message if text is None else text}\n")
        sys.stderr.flush()


def traceback_of(error: BaseException) -> None:
    """Write the traceback of an exception."""
    import traceback

    if (lines := json_lines()) is None:
        traceback.print_exception(error)
    else:
        stack = "".join(traceback.format_exception(error))
        lines.entry("ERROR", f"{type(error).__name__}: {error}", {"stack_trace": stack})


@contextlib.contextmanager
def messages_as(chosen: str, command: str) -> Iterator[None]:
    """Write the messages of the block, and of the processes that it starts, as `chosen`: text or json."""
    variable, stream, handlers = os.environ.get(LOG_FORMAT), sys.stderr, logging.getLogger().handlers[:]
    hooks = threading.excepthook, warnings.showwarning
    os.environ[LOG_FORMAT] = chosen
    if chosen == "json":
        _install(command)
    try:
        yield
    finally:
        if (lines := json_lines()) is not None and chosen == "json":
            lines.close_line()
            sys.stderr, (threading.excepthook, warnings.showwarning) = stream, hooks
        logging.getLogger().handlers[:] = handlers
        if variable is None:
            del os.environ[LOG_FORMAT]
        else:
            os.environ[LOG_FORMAT] = variable


def install(command: str) -> None:
    """Have a worker's process write its messages as the environment asks, from now on. May be called again.

    As text, warnings and errors of `logging` get their level and module in front, unless it has handlers already.
    """
    if log_format() == "text":
        logging.basicConfig(level=logging.WARNING, format=_TEXT_FORMAT)
    elif json_lines() is None:
        _install(command)


def _install(command: str) -> None:
    outer = json_lines()  # of a verb that runs this one
    lines = JsonLines(sys.stderr if outer is None else outer.stream, command)
    sys.stderr = lines
    root = logging.getLogger()
    root.handlers[:] = [*(each for each in root.handlers if not isinstance(each, _Handler)), _Handler(lines)]
    threading.excepthook = _thread_failed
    warnings.showwarning = _show_warning


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        traceback_of(failure.exc_value)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    write("WARNING", f"{category.__name__}: {message}", fields={"source": f"{filename}:{lineno}"})
