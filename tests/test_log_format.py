"""`--log-format json`: every line that real commands write to standard error is one object."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines import assets

Run = Callable[..., subprocess.CompletedProcess[str]]
JSON = {"SFUMATO_LOG_FORMAT": "json"}


def objects(done: subprocess.CompletedProcess[str], command: str | None) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    for entry in entries:
        assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
        assert entry["severity"] in {"DEFAULT", "INFO", "NOTICE", "WARNING", "ERROR"}
        assert isinstance(entry["message"], str)
        assert entry.get("command") == command
    return entries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "command", "message", "code"),
    [
        ((), None, "no verb", 2),
        (("--nonsense",), None, "unknown flag --nonsense", 2),
        (("preproces", "x"), None, "did you mean preprocess?", 2),
        (("preprocess", "clips", "out", "--sise", "3"), "preprocess", "did you mean --size?", 2),
        (("preprocess", "nowhere", "out"), "preprocess", "nowhere does not exist", 2),
        (("status", "nowhere"), "status", "nowhere does not exist", 2),
        (("meta-train", "demo", "--data", "nowhere", "-o", "run"), "meta-train", "nowhere", 2),
        (("fine-tune", "text.jpg", "-o", "avatar"), "fine-tune", "text.jpg", 1),
        (("animate", "-s", "text.jpg", "-d", "nowhere.mp4", "-o", "videos"), "animate", "nowhere.mp4", 2),
        (("serve", "--model", "nowhere", "--data-dir", "data", "--port", "8501"), "serve", "nowhere", 2),
    ],
)
def test_an_error_is_one_object(
    run_sfumato: Run, arguments: tuple[str, ...], command: str | None, message: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("text")
    done = run_sfumato(*arguments, folder=tmp_path, environment=JSON)
    *_, last = objects(done, command)
    assert (last["severity"], last["exit_code"], done.returncode) == ("ERROR", code, code)
    assert message in last["message"]


@pytest.mark.slow
def test_a_traceback_is_a_field(run_sfumato: Run, tmp_path: Path) -> None:
    arguments = ("preprocess", "nowhere", "out", "--canary", "0", "--traceback", "--log-format=json")
    note, traced, error = objects(run_sfumato(*arguments, folder=tmp_path), "preprocess")
    assert (note["severity"], note["message"]) == ("WARNING", "--canary is deprecated, use --trial-clips")
    assert traced["stack_trace"].rstrip().endswith("FileNotFoundError: nowhere does not exist")
    assert error["message"] == "nowhere does not exist"


@pytest.mark.slow
def test_a_wrong_format_is_a_line_of_text(run_sfumato: Run) -> None:
    done = run_sfumato("status", "x", "--log-format", "yaml")
    expected = "sfumato status: error: --log-format has to be one of text, json, not 'yaml'\n"
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.slow
def test_the_flag_may_stand_before_the_verb(run_sfumato: Run) -> None:
    done = run_sfumato("--log-format", "json", "status", "nowhere")
    (entry,) = objects(done, "status")
    assert (done.returncode, entry["message"]) == (2, "nowhere does not exist")


@pytest.mark.slow
def test_progress_and_messages_of_work_are_objects_and_the_result_stays(run_sfumato: Run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "broken.mp4").write_text("no video")
    shutil.copy(assets.fetch("clip_single_face"), tmp_path / "clips" / "ann.mp4")
    splits = ("--val-fraction", "0", "--test-fraction", "0", "--trial-clips", "0", "--frames-per-clip", "9")
    often = {**JSON, "SFUMATO_PROGRESS_SECONDS": "0.2"}
    done = run_sfumato("preprocess", "clips", "out", *splits, "--json", folder=tmp_path, environment=often)
    entries = objects(done, "preprocess")
    last = [entry for entry in entries if entry.get("task") == "preprocess"][-1]
    assert last["total"] == 2
    assert {"done", "per_second", "seconds"} <= set(last)
    result = json.loads(done.stdout)
    assert (result["counts"]["done"], result["counts"]["rejected"]) == (1, 1)
    again = run_sfumato("status", "out", folder=tmp_path, environment=JSON)
    assert again.stderr == ""
    assert "1 done" in again.stdout
