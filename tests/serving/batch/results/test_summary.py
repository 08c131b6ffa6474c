"""What the command says at the end of a run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from rich.console import Console

from pipelines import cli
from serving.batch.results.report import Row
from serving.batch.results.sidecars import Sidecar
from serving.batch.results.summary import result, table

ROWS = [
    Row("ann--talk", "done", video="v"),
    Row("bob--talk", "skipped", video="v"),
    Row("ann--bad", "failed", reason="bad.mp4: no [red]face"),
    Row("bob--bad", "failed", reason="bad.mp4: no [red]face"),
]


def printed(rows: Sequence[Row]) -> list[str]:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(table(rows))
    return [" ".join(line.split()) for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def sidecar(*files: str) -> Sidecar:
    return Sidecar("key", "Sfumato", files, (), (), "model", {}, 1, "25", 2, 2, False, 1.0)


def test_the_table_counts_outcomes_and_each_reason_once() -> None:
    assert printed(ROWS) == [
        "videos",
        "done 1",
        "skipped 1",
        "failed 2",
        "2 ann--bad and 1 more: bad.mp4: no [red]face",
    ]


def test_the_table_shows_twenty_reasons() -> None:
    lines = printed([Row(f"item-{n}", "failed", reason=f"reason {n}") for n in range(25)])
    assert lines[4] == "1 item-0: reason 0"
    assert lines[23] == "1 item-19: reason 19"
    assert lines[24:] == ["... and 5 more reasons"]


def test_the_result_lists_every_file_and_every_reason() -> None:
    sidecars = {"a": sidecar("a.mp4", "a.side-by-side.mp4"), "s.mosaic": sidecar("s.mosaic.mp4")}
    found = result("/out", ROWS, sidecars, (cli.Artefact("page", "/out/index.html"),), ("a note",), 1.5)
    assert json.loads(found.to_json()) == {
        "ok": True,
        "made": [
            {"what": "page", "where": "/out/index.html"},
            {"what": "video", "where": "/out/a.mp4"},
            {"what": "side by side", "where": "/out/a.side-by-side.mp4"},
            {"what": "mosaic", "where": "/out/s.mosaic.mp4"},
        ],
        "counts": {"done": 1, "skipped": 1, "failed": 2},
        "seconds": 1.5,
        "notes": ["a note", "ann--bad and 1 more: bad.mp4: no [red]face"],
    }


def test_the_summary_for_people_is_short() -> None:
    sidecars = {f"v{n}": sidecar(f"v{n}.mp4") for n in range(1000)}
    lines = result("/out", ROWS, sidecars, (), (), 1.5).summary().splitlines()
    assert lines[-2:] == ["... and 980 more files", "1 done, 1 skipped, 2 failed in 1.5 s"]
    assert len(lines) == 1 + 20 + 2


def test_without_a_video_the_command_fails() -> None:
    assert not result("/out", ROWS[2:], {}, (), (), 1.0).ok
    assert result("/out", ROWS[1:], {}, (), (), 1.0).ok
