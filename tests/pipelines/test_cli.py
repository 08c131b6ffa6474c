import io
import json
import sys
import threading
import time

import pytest

import sfumato
from pipelines.cli import PROGRESS_SECONDS, Artefact, CommandResult, LineProgress, console, progress


def test_outcome_is_one_line_of_json_with_all_its_parts() -> None:
    outcome = CommandResult(
        (Artefact("avatar", "demo/avatar"),), {"frames": 3}, 1.23456, ok=False, notes=("careful\nnow",)
    )
    line = outcome.to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "ok": False,
        "made": [{"what": "avatar", "where": "demo/avatar"}],
        "counts": {"frames": 3},
        "seconds": 1.235,
        "notes": ["careful\nnow"],
    }


def test_summary_names_what_was_made_and_where() -> None:
    text = CommandResult((Artefact("avatar", "demo/avatar"),), {"frames": 3}, 2.0, notes=("slow",)).summary()
    assert text.splitlines() == ["note: slow", "avatar: demo/avatar", "3 frames in 2.0 s"]


def test_messages_and_bars_go_to_standard_error() -> None:
    assert console().stderr
    assert progress().console.stderr


def wait_for(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen, end = "", time.monotonic() + 5
    while text not in seen:
        assert time.monotonic() < end, seen
        time.sleep(0.005)
        seen += capsys.readouterr().err


def test_lines_come_while_nothing_advances(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(0.05) as bars:
        bars.add_task("clips", total=1400, completed=3)
        wait_for("clips: 3 of 1,400, after 0:00:00\n", capsys)
        wait_for("clips: 3 of 1,400, after 0:00:00\n", capsys)


def test_a_line_gives_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    with LineProgress(0.05) as bars:
        bars.get_time = lambda: now
        task = bars.add_task("clips", total=14, completed=2)
        wait_for("clips: 2 of 14, after 0:00:00", capsys)
        now = 160.0
        bars.update(task, completed=5)
        # 3 in a minute, 9 to come; the first two were done before.
        wait_for("clips: 5 of 14, 3.0/min, 0:03:00 left\n", capsys)
        bars.reset(task, completed=10)
        wait_for("clips: 10 of 14, after 0:00:00\n", capsys)
        now = 162.0
        bars.update(task, completed=13)
        wait_for("clips: 13 of 14, 1.5/s, 0:00:01 left\n", capsys)


def test_one_line_tells_of_all_tasks_that_run(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(0.05, num_bytes=True) as bars:
        bars.add_task("weights [1]", total=3_000_000, completed=1_500_000)
        bars.add_task("done before", total=1, completed=1)
        bars.add_task("cl\nip", total=None, completed=2_000)
        wait_for("weights [1]: 1.5 MB of 3.0 MB, after 0:00:00; cl?ip: 2.0 kB, after 0:00:00\n", capsys)


def test_short_work_writes_nothing_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bars:
        bars.add_task("clips", total=2)
        assert any(thread.name == "progress" for thread in threading.enumerate())
    assert not any(thread.name == "progress" for thread in threading.enumerate())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", ["closed", "missing"])
def test_work_goes_on_without_standard_error(
    stream: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = io.StringIO()
    closed.close()
    with LineProgress(0.05) as bars:
        bars.add_task("clips", total=2)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", closed if stream == "closed" else None)
            assert isinstance(progress(), LineProgress)
            time.sleep(0.15)
        wait_for("clips: 0 of 2", capsys)


def test_a_terminal_shows_a_bar_and_a_log_never(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert not progress().disable
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")  # as continuous integration sets it
    assert isinstance(progress(), LineProgress)


def test_the_interval_is_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PROGRESS_SECONDS, "0.05")
    with progress() as bars:
        bars.add_task("clips", total=None, completed=7)
        wait_for("clips: 7, after 0:00:00\n", capsys)
    monkeypatch.setenv(PROGRESS_SECONDS, "0")
    with progress() as bars:
        bars.add_task("clips", total=None)
        assert not any(thread.name == "progress" for thread in threading.enumerate())


@pytest.mark.parametrize("value", ["often", "-1", "nan"])
def test_a_wrong_interval_is_an_error_of_one_line(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PROGRESS_SECONDS, value)
    assert sfumato.main(["validate", "docs"]) == 1
    error = f"SFUMATO_PROGRESS_SECONDS has to be a number of seconds, at least 0, not '{value}'"
    assert capsys.readouterr().err.strip() == f"sfumato validate: error: {error}"
