import json

from pipelines.cli import Artefact, CommandResult, console, progress


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
