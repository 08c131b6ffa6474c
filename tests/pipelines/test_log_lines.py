"""Messages as one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from pipelines import cli, log_lines
from pipelines.log_lines import LOG_FORMAT, install, messages_as, take_log_format

LEVELS = {"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}
"""Of Google Cloud's LogSeverity, https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity."""


class Log:
    """What has gone to standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.delenv(LOG_FORMAT, raising=False)
    return Log(capsys)


def test_an_object_has_time_severity_message_and_command(log: Log) -> None:
    before = datetime.now(UTC)
    with messages_as("json", "preprocess"):
        log_lines.write("WARNING", "of gs://user:secret@bucket/x", "not this", {"clip": "a/b/c", "number": 3})
    (entry,) = log.objects()
    assert before <= datetime.fromisoformat(entry.pop("time")) <= datetime.now(UTC)
    assert entry == {
        "severity": "WARNING",
        "message": "of gs://bucket/x",
        "command": "preprocess",
        "clip": "a/b/c",
        "number": 3,
    }


def test_as_text_the_message_is_a_line(log: Log) -> None:
    with messages_as("text", "preprocess"):
        cli.warn("no weights", clip="a")
        logging.getLogger("x").warning("plain")
    assert log.text.startswith("note: no weights\n")
    assert "{" not in log.text


def test_all_that_is_printed_becomes_objects(log: Log) -> None:
    table = Table("name", "number")
    table.add_row("clips with [brackets]", "3" * 90)
    with messages_as("json", "bench"):
        cli.console().print(table)
        cli.console().print("")
        cli.console().rule("[bold]videos", align="left")
        sys.stderr.write("one\n\nof a library \n")
        sys.stderr.write("without an end")
    grid, rule, *lines = log.objects()
    assert grid["message"].count("\n") >= 2  # a table is one object
    assert "3" * 90 in grid["message"]
    assert (rule["severity"], rule["message"]) == ("INFO", "videos")
    assert [(line["severity"], line["message"]) for line in lines] == [
        ("DEFAULT", "one"),
        ("DEFAULT", "of a library"),
        ("DEFAULT", "without an end"),
    ]


def test_logging_warnings_and_failed_threads_keep_level_context_and_traceback(log: Log) -> None:
    def fail() -> None:
        raise RuntimeError("in a thread")

    with messages_as("json", "serve"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("serving.x").error("job %s failed", "j1", extra={"job": "j1"})
        try:
            fail()
        except RuntimeError:
            logging.getLogger("serving.x").exception("it fails")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    error, traced, old, died = log.objects()
    assert (error["severity"], error["message"], error["job"]) == ("ERROR", "job j1 failed", "j1")
    assert error["logger"] == "serving.x"
    assert traced["message"] == "it fails"
    assert traced["stack_trace"].startswith("Traceback")
    assert traced["stack_trace"].endswith("RuntimeError: in a thread")
    assert old["severity"] == "WARNING"
    assert old["message"] == "DeprecationWarning: old"
    assert (died["severity"], died["message"]) == ("ERROR", "RuntimeError: in a thread")
    assert {entry["severity"] for entry in (error, traced, old, died)} <= LEVELS


def test_progress_is_an_object_for_each_task(log: Log) -> None:
    with messages_as("json", "preprocess"):
        bars = cli.LineProgress(0.0)
        now = 100.0
        bars.get_time = lambda: now
        task = bars.add_task("clips\n1", total=14)
        first = bars._state(bars.tasks[task], now)
        now = 160.0
        bars.update(task, completed=4)
        bars._write([first, bars._state(bars.tasks[task], now)])
    zero, later = log.objects()
    assert (zero["done"], zero["total"], zero["severity"]) == (0, 14, "INFO")
    assert "seconds_left" not in zero
    # 4 in 60 s; 10 more take 150 s.
    assert (later["done"], later["per_second"], later["seconds_left"]) == (4, 0.067, 150)
    assert later["message"] == "clips?1: 4 of 14, 4.0/min, 0:02:30 left"


def test_what_was_there_before_comes_back(log: Log) -> None:
    handlers, hook, before = [*logging.getLogger().handlers], threading.excepthook, sys.stderr
    with messages_as("json", "demo"):
        assert os.environ[LOG_FORMAT] == "json"  # for child processes
        outer = sys.stderr
        with messages_as("json", "animate"):
            logging.getLogger("x").warning("inner")
        assert sys.stderr is outer
        logging.getLogger("x").warning("outer")
    assert [(entry["command"], entry["message"]) for entry in log.objects()] == [
        ("animate", "inner"),
        ("demo", "outer"),
    ]
    assert sys.stderr is before
    assert LOG_FORMAT not in os.environ
    assert (logging.getLogger().handlers, threading.excepthook) == (handlers, hook)


def test_a_worker_takes_the_format_from_its_environment(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    install("meta-train")
    logging.getLogger("x").warning("as text")
    assert log.text == "WARNING x: as text\n"
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setenv(LOG_FORMAT, "json")
    for _ in range(2):
        install("meta-train")
    logging.getLogger("x").warning("once")
    entry = json.loads(log.text.splitlines()[1])
    assert (entry["message"], entry["command"]) == ("once", "meta-train")
    assert len(log.text.splitlines()) == 2


@pytest.mark.parametrize("stream", ["closed", "none"])
def test_a_closed_log_does_not_end_the_work(stream: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = (tmp_path / "log").open("w")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed if stream == "closed" else None)
    for chosen in log_lines.FORMATS:
        with messages_as(chosen, "x"):
            log_lines.write("INFO", "unheard")


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        (["a", "--json"], None, ("text", ["a", "--json"])),
        (["a"], "", ("text", ["a"])),
        (["a"], "json", ("json", ["a"])),
        (["a", "--log-format", "text"], "json", ("text", ["a"])),
        (["--log-format=json", "a"], None, ("json", ["a"])),
        (["--log_format=json", "a"], None, ("json", ["a"])),
        (["--log-format", "text", "a", "--log-format", "json"], None, ("json", ["a"])),  # the last one counts
        (["a", "--", "--log-format", "x"], None, ("text", ["a", "--", "--log-format", "x"])),
        (["--log-format", "json"], "nonsense", ("json", [])),
    ],
)
def test_the_flag_goes_before_the_variable(
    arguments: list[str], variable: str | None, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOG_FORMAT, raising=False)
    if variable is not None:
        monkeypatch.setenv(LOG_FORMAT, variable)
    assert take_log_format(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "variable", "message"),
    [
        (["--log-format", "xml"], "", "--log-format has to be one of text, json, not 'xml'"),
        (["--log-format"], "", "--log-format has to be one of text, json, not ''"),
        (["--log-format="], "", "--log-format has to be one of text, json, not ''"),
        ([], "JSON", "SFUMATO_LOG_FORMAT has to be one of text, json, not 'JSON'"),
    ],
)
def test_a_wrong_format_is_named(
    arguments: list[str], variable: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG_FORMAT, variable)
    with pytest.raises(ValueError, match=f"^{message}$"):
        take_log_format(arguments)
