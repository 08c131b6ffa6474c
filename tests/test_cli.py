"""The `sfumato` command in this process: what every verb shares, tested with a small verb."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
import tyro

import sfumato
from pipelines.cli import Artefact, CommandResult

ROOT = Path(sfumato.__file__).parent


@dataclass(frozen=True)
class PaintOptions:
    """Paint one picture."""

    canvas: tyro.conf.Positional[str]
    """What to paint on."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    """Where the picture goes."""
    steps: int = 3
    """Number of strokes."""
    style: Literal["oil", "chalk"] = "oil"
    """The medium."""


def paint(options: PaintOptions) -> CommandResult:
    made = (Artefact("picture", options.out),)
    return CommandResult(made=made, counts={"strokes": options.steps}, seconds=1.5, ok=options.steps > 0)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A verb `paint` whose `run` tests may replace."""
    module: Any = ModuleType("training.commands.paint")
    module.Options = PaintOptions
    module.run = paint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sfumato.VERBS, "paint", sfumato.Verb(module.__name__, "training", "paint"))
    monkeypatch.delenv("SFUMATO_TRACEBACK", raising=False)
    return module


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (("preprocess", "nowhere", "out", "--canary", "0"), "--canary is deprecated, use --trial-clips"),
        (("meta-train", "demo", "-o", "run", "--data", "nowhere", "--form", "published"), "use --no-warp-prior"),
        (("evaluate", "shipped", "--data", "nowhere", "-o", "out", "--cross", "1"), "use --num-cross-pairs"),
        (("retry", "nowhere", "--clip-timeout=9"), "--clip-timeout is deprecated, use --decoder-timeout"),
    ],
)
def test_old_flags_of_the_verbs_are_understood(
    arguments: tuple[str, ...], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sfumato.main(arguments) in (1, 2)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert note in first
    assert "nowhere" in last
    assert "flag" not in last


@pytest.mark.usefixtures("verb")
def test_outcome_is_summed_up_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["paint", "wood", "-o", "lisa", "--steps", "7"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "picture: lisa\n7 strokes in 1.5 s\n"
    assert printed.err == ""


@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize("arguments", [["--json", "wood", "-o", "lisa"], ["wood", "-o", "lisa", "--json"]])
def test_json_is_one_object_wherever_the_flag_stands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["paint", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "made": [{"what": "picture", "where": "lisa"}],
        "counts": {"strokes": 3},
        "seconds": 1.5,
        "notes": [],
    }


@pytest.mark.usefixtures("verb")
def test_nothing_usable_is_exit_code_1_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["paint", "wood", "-o", "lisa", "--steps", "0"]) == 1
    assert capsys.readouterr().err == "sfumato paint: error: nothing usable came out\n"


def test_reason_of_a_failure_is_its_last_note(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = lambda options: CommandResult(
        made=(), counts={}, seconds=0.1, ok=False, notes=("wood: wet", "no wood was dry")
    )
    assert sfumato.main(["paint", "wood", "-o", "x", "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "sfumato paint: error: no wood was dry\n"
    assert json.loads(printed.out)["notes"] == ["wood: wet", "no wood was dry"]


@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wood", "-o", "x", "--stpes", "3"], "unknown flag --stpes; did you mean --steps?"),
        (["wood", "-o", "x", "--stpes=3"], "unknown flag --stpes; did you mean --steps?"),
        (["wood", "-o", "x", "--jsno"], "unknown flag --jsno; did you mean --json?"),
        (["--stpes", "3"], "unknown flag --stpes; did you mean --steps?"),  # also leaves OUT missing
        (["wood", "-o", "x", "--qqqq"], "unknown flag --qqqq"),
        (["wood", "oak", "-o", "x"], "unexpected argument 'oak'"),
        (["wood"], "missing -o OUT, --out OUT"),
        (["-o", "x"], "missing CANVAS"),
        ([], "missing CANVAS, -o OUT, --out OUT"),
        (["wood", "-o"], "Missing value for argument '-o/--out'. Expected 1 values."),
        (
            ["wood", "-o", "x", "--steps", "many"],
            "Error parsing --steps: invalid literal for int() with base 10: 'many'",
        ),
        (
            ["wood", "-o", "x", "--style", "water"],
            "invalid choice 'water' for argument '--style'. Expected one of ('oil', 'chalk').",
        ),
    ],
)
def test_usage_error_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sfumato.main(["paint", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"sfumato paint: error: {message}\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no verb; sfumato --help lists them"),
        (["preproces"], "unknown verb 'preproces'; did you mean preprocess?"),
        (["--hlep"], "unknown flag --hlep; did you mean --help?"),
    ],
)
def test_wrong_verb_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sfumato.main(arguments) == 2
    assert capsys.readouterr().err == f"sfumato: error: {message}\n"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ValueError("a.mp4: not a video"), "error: a.mp4: not a video", 1),
        (ValueError("a\nb\x1b[31m"), "error: a\\nb\\x1b[31m", 1),
        (FileNotFoundError(2, "No such file or directory", "a.mp4"), "error: a.mp4: No such file or directory", 2),
        (FileNotFoundError("gs://b/a.mp4"), "error: gs://b/a.mp4", 2),
        (OSError(28, "No space left on device", "out"), "error: out: No space left on device", 1),
        (ConnectionRefusedError(111, "Connection refused"), "error: Connection refused", 1),
        (RuntimeError("boom\nhelp"), "error: RuntimeError: boom (unexpected; --traceback shows where)", 1),
        (ValueError('ray::f()\n  File "f.py", line 1\nValueError: bad wood'), "error: ValueError: bad wood", 1),
        (KeyboardInterrupt(), "interrupted: run the same command again to resume", 130),
        (
            ModuleNotFoundError("No module named 'ray'", name="ray"),
            "error: this needs the \"training\" extra: pip install '.[training]' in the checkout"
            " (no module named 'ray')",
            1,
        ),
    ],
)
def test_exception_becomes_one_line_and_an_exit_code(
    verb: Any, error: BaseException, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = lambda options: _raise(error)
    assert sfumato.main(["paint", "wood", "-o", "x"]) == code
    assert capsys.readouterr().err == f"sfumato paint: {line}\n"


def test_traceback_is_shown_when_asked_for(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = lambda options: _raise(ValueError("bad wood"))
    assert sfumato.main(["paint", "wood", "-o", "x", "--traceback"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.endswith("sfumato paint: error: bad wood\n")


def test_verb_may_take_unknown_flags_or_refuse_them(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[list[str]] = []

    def accept_unknown(options: PaintOptions, arguments: list[str]) -> PaintOptions:
        if "--brush" not in arguments:
            raise ValueError(f"unknown flag {arguments[0]}")
        taken.append(arguments)
        return options

    verb.accept_unknown = accept_unknown
    assert sfumato.main(["paint", "wood", "-o", "x", "--brush", "fine"]) == 0
    assert taken == [["--brush", "fine"]]
    assert sfumato.main(["paint", "wood", "-o", "x", "--stpes", "3"]) == 2
    assert capsys.readouterr().err == "sfumato paint: error: unknown flag --stpes; did you mean --steps?\n"


@pytest.mark.usefixtures("verb")
def test_help_of_a_verb_explains_its_flags_and_the_shared_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sfumato.main(["paint", "--help"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert "Number of strokes." in page
    assert "--json" in page
