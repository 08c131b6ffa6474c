"""The `sfumato` command: what every verb shares, in process with a small verb and through the real command."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
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


def test_old_spellings_of_flags_still_work_and_name_the_present_ones(
    verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = {"--tint": "--colour", "--look plain": "--no-frame", "--look usual": ""}
    spell = functools.partial(sfumato._with_present_flags, "paint", renamed=renamed)
    assert spell(["a", "--tint", "red", "--tint=blue"]) == ["a", "--colour", "red", "--colour=blue"]
    assert spell(["--look", "plain", "x"]) == spell(["--look=plain", "x"]) == ["--no-frame", "x"]
    assert spell(["--look=usual"]) == []
    assert spell(["--look", "odd", "--", "--tint"]) == ["--look", "odd", "--", "--tint"]
    capsys.readouterr()
    spell(["--tint", "red"])
    assert capsys.readouterr().err == "sfumato paint: note: --tint is deprecated, use --colour\n"


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


# Through the real command.


def run_sfumato(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sfumato", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)


def test_installed_script_is_the_command() -> None:
    script = Path(sys.executable).with_name("sfumato")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sfumato ")


def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "apache_beam", "mlflow", "numpy", "tyro", "rich", "pipelines", "training", "serving"}
    snippet = f"import sys, sfumato; sfumato.main(['--help']); sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in sfumato.VERBS)


def test_half_a_verb_lists_its_other_halves() -> None:
    done = run_sfumato("bench")
    assert (done.returncode, done.stdout) == (2, "")
    halves = "bench preprocess, bench loader, bench train, bench landmarks"
    assert done.stderr == f"sfumato: error: bench what? one of: {halves}\n"


def test_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time, sys, sfumato; time.sleep(0.5); sys.exit(sfumato.main(['--help']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


# Each verb on wrong input, through the real command. `{missing}` does not exist, `{text}` is a text file named .mp4,
# `{bundle}` is a real base model, `{out}` a folder that does not exist yet.

COMPLETE = {
    "assets": ["list"],
    "synthesize": ["{out}"],
    "preprocess": ["{videos}", "{out}"],
    "validate": ["{missing}"],
    "inspect": ["{missing}", "-o", "{out}"],
    "retry": ["{missing}"],
    "forget": ["{missing}", "--identity", "ann", "--yes"],
    "meta-train": ["demo", "--data", "{missing}", "-o", "{out}"],
    "evaluate": ["{bundle}", "--data", "{missing}", "-o", "{out}"],
    "export": ["{bundle}", "-o", "{out}"],
    "fine-tune": ["{picture}", "--model", "{bundle}", "-o", "{out}"],
    "animate": ["-s", "{picture}", "-d", "{text}", "--model", "{bundle}", "-o", "{out}"],
    "serve": ["--model", "{bundle}"],
    "demo": ["-o", "{out}"],
    "doctor": [],
    "bench preprocess": [],
    "bench loader": [],
    "bench train": [],
    "bench landmarks": [],
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model as small as the presets' shape allows, untrained."""
    import torch

    from training.checkpoints.bundle import TrainingProvenance
    from training.losses.loss_networks import LossNetworks
    from training.losses.perceptual import PerceptualNetwork
    from training.meta_training.checkpoint import save_bundle
    from training.meta_training.collectives import SingleProcess
    from training.meta_training.step import Learner
    from training.models.identity_rows import IdentityRows
    from training.presets import demo

    folder = tmp_path_factory.mktemp("bundle") / "model"
    config = demo()
    table = IdentityRows(["id/video"], config.model.embedding_size, learning_rate=0.1)
    learner = Learner(
        config, table, LossNetworks(config.losses, PerceptualNetwork("alexnet")), SingleProcess(), torch.device("cpu")
    )
    save_bundle(
        str(folder), learner, TrainingProvenance(step=0, images_seen=0, dataset="none", dataset_digest="0" * 64)
    )
    return folder


@pytest.fixture
def places(tmp_path: Path, bundle: Path) -> dict[str, str]:
    """The places that the arguments above name."""
    videos = tmp_path / "videos"
    videos.mkdir()
    text = videos / "text.mp4"
    text.write_text("this is no video\n")
    picture = ROOT / "pipelines" / "assets" / "data" / "mona_lisa.jpg"
    names = {"missing": tmp_path / "missing", "out": tmp_path / "out", "videos": videos, "text": text}
    return {name: str(path) for name, path in {**names, "bundle": bundle, "picture": picture}.items()}


def _filled(arguments: list[str], places: dict[str, str]) -> list[str]:
    return [argument.format(**places) for argument in arguments]


def _error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that says what is wrong."""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", sfumato.VERBS)
def test_misspelt_flag_is_one_line_and_exit_code_2(name: str, places: dict[str, str]) -> None:
    done = run_sfumato(*name.split(), *_filled(COMPLETE[name], places), "--jsno")
    assert done.returncode == 2
    # Some verbs pass on to Beam what they do not know, and say that Beam does not know it either.
    beam = " (Beam does not know it either)" if name in ("preprocess", "retry") else ""
    assert done.stderr == f"sfumato {name}: error: unknown flag --jsno{beam}; did you mean --json?\n"
    assert done.stdout == ""
    assert not Path(places["out"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["preprocess", "{missing}", "{out}"],
        ["validate", "{missing}"],
        ["inspect", "{missing}", "-o", "{out}"],
        ["retry", "{missing}"],
        ["forget", "{missing}", "--identity", "ann", "--yes"],
        ["meta-train", "demo", "--data", "{missing}", "-o", "{out}"],
        ["evaluate", "{missing}", "--data", "{missing}", "-o", "{out}"],
        ["evaluate", "{bundle}", "--data", "{missing}", "-o", "{out}"],
        ["export", "{missing}", "-o", "{out}"],
        ["export", "{bundle}", "-o", "{out}", "--card", "{missing}"],
        ["fine-tune", "{missing}", "--model", "{bundle}", "-o", "{out}"],
        ["fine-tune", "{picture}", "--model", "{missing}", "-o", "{out}"],
        ["animate", "-s", "{missing}", "-d", "{text}", "--model", "{bundle}", "-o", "{out}"],
        ["animate", "-s", "{picture}", "-d", "{missing}", "--model", "{bundle}", "-o", "{out}"],
        ["animate", "-s", "{picture}", "-d", "{text}", "--model", "{missing}", "-o", "{out}"],
        ["serve", "--model", "{missing}"],
    ],
    ids=" ".join,
)
def test_missing_path_is_named_in_one_line_with_exit_code_2(arguments: list[str], places: dict[str, str]) -> None:
    done = run_sfumato(*_filled(arguments, places))
    assert places["missing"] in _error_line(done)
    assert done.returncode == 2
    assert not Path(places["out"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["preprocess", "{videos}", "{out}"],
        ["preprocess", "{text}", "{out}"],
        ["synthesize", "{text}"],
        ["validate", "{text}"],
        ["inspect", "{text}", "-o", "{out}"],
        ["retry", "{text}"],
        ["forget", "{text}", "--identity", "ann", "--yes"],
        ["meta-train", "demo", "--data", "{text}", "-o", "{out}"],
        ["export", "{text}", "-o", "{out}"],
        ["fine-tune", "{text}", "--model", "{bundle}", "-o", "{out}"],
        ["fine-tune", "{picture}", "--model", "{text}", "-o", "{out}"],
        ["animate", "-s", "{text}", "-d", "{text}", "--model", "{bundle}", "-o", "{out}"],
        ["animate", "-s", "{picture}", "-d", "{text}", "--model", "{bundle}", "-o", "{out}"],
        ["serve", "--model", "{text}"],
    ],
    ids=" ".join,
)
def test_text_named_mp4_is_refused_by_name_with_exit_code_1(arguments: list[str], places: dict[str, str]) -> None:
    done = run_sfumato(*_filled(arguments, places))
    assert _error_line(done)
    assert "text.mp4" in done.stderr + done.stdout
    assert done.returncode == 1


@pytest.mark.slow
def test_json_is_the_last_line_of_the_real_command() -> None:
    done = run_sfumato("doctor", "--json")
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"ok", "made", "counts", "seconds", "notes"}


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_with_exit_code_130(tmp_path: Path) -> None:
    from pipelines.media.video import VideoWriter

    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    with VideoWriter(videos / "grey.mp4", width=320, height=240, fps=Fraction(25)) as writer:
        for _ in range(250):
            writer.write(np.full((240, 320, 3), 128, np.uint8))
    for number in range(10):
        shutil.copy(videos / "grey.mp4", videos / f"grey-{number}.mp4")
    # Tests in the background of a shell script inherit a SIGINT that is ignored.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = f"import signal, sys, sfumato; {heed}; sys.exit(sfumato.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "preprocess", str(videos), str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # its own group, so that all of it can be interrupted as a terminal does
    )
    with process:
        while not (out / "plan.parquet").exists():  # from here on Beam's workers start, which takes seconds
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith("sfumato preprocess: interrupted: run the same command again to resume\n")
    assert "Traceback" not in stderr
    assert not (out / "dataset.json").exists()


def test_a_library_that_aborts_the_process_at_exit_spoils_no_result() -> None:
    """As Arrow's and gRPC's threads do now and then; Python's own exit handlers still run."""
    spoil = "libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.abort, None, None)"
    late = "main = sfumato.main; sfumato.main = lambda: (atexit.register(print, 'cleaned up'), main())[1]"
    for arguments, code in ((["--version"], 0), (["assets", "verify", "--help"], 0), (["preproces"], 2)):
        command = f"import atexit, ctypes, sys, sfumato; {spoil}; {late}; sys.argv[1:] = {arguments}; sfumato.command()"
        ends = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
        assert ends.returncode == code, ends.stderr
        assert "cleaned up" in ends.stdout
