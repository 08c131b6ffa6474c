"""The `sfumato` command in a process of its own: start, exit, signals, and each verb on wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import sfumato

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(sfumato.__file__).parent


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


@pytest.mark.slow
def test_half_a_verb_lists_its_other_halves(run_sfumato: Run) -> None:
    done = run_sfumato("bench")
    assert (done.returncode, done.stdout) == (2, "")
    halves = (
        "bench preprocess, bench loader, bench train, bench render, bench landmarks, bench serve, bench cluster, "
        "bench small-faces"
    )
    assert done.stderr == f"sfumato: error: bench what? one of: {halves}\n"


@pytest.mark.slow
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
    "status": ["{missing}"],
    "retry": ["{missing}"],
    "forget": ["{missing}", "--identity", "ann", "--yes"],
    "meta-train": ["demo", "--data", "{missing}", "-o", "{out}"],
    "evaluate": ["{bundle}", "--data", "{missing}", "-o", "{out}"],
    "export": ["{bundle}", "-o", "{out}"],
    "fine-tune": ["{picture}", "--model", "{bundle}", "-o", "{out}"],
    "pose": ["{picture}", "--model", "{bundle}", "-o", "{out}.png"],
    "motion": ["{text}", "-o", "{out}.csv"],
    "verify": ["{picture}"],
    "animate": ["-s", "{picture}", "-d", "{text}", "--model", "{bundle}", "-o", "{out}"],
    "serve": ["--model", "{bundle}"],
    "serve keys": ["list", "--data-dir", "{out}"],
    "demo": ["-o", "{out}"],
    "doctor": [],
    "bench preprocess": [],
    "bench loader": [],
    "bench train": [],
    "bench render": [],
    "bench landmarks": [],
    "bench serve": [],
    "bench cluster": ["animate"],
    "bench small-faces": [],
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
        str(folder),
        learner.snapshot(),
        TrainingProvenance(step=0, images_seen=0, dataset="none", dataset_digest="0" * 64),
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
def test_misspelt_flag_is_one_line_and_exit_code_2(name: str, places: dict[str, str], run_sfumato: Run) -> None:
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
def test_missing_path_is_named_in_one_line_with_exit_code_2(
    arguments: list[str], places: dict[str, str], run_sfumato: Run
) -> None:
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
def test_text_named_mp4_is_refused_by_name_with_exit_code_1(
    arguments: list[str], places: dict[str, str], run_sfumato: Run
) -> None:
    done = run_sfumato(*_filled(arguments, places))
    assert _error_line(done)
    assert "text.mp4" in done.stderr + done.stdout
    assert done.returncode == 1


@pytest.mark.slow
def test_json_is_the_last_line_of_the_real_command(run_sfumato: Run) -> None:
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


@pytest.mark.slow
def test_a_library_that_aborts_the_process_at_exit_spoils_no_result() -> None:
    """As Arrow's and gRPC's threads do now and then; Python's own exit handlers still run."""
    spoil = "libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.abort, None, None)"
    late = "main = sfumato.main; sfumato.main = lambda: (atexit.register(print, 'cleaned up'), main())[1]"
    for arguments, code in ((["--version"], 0), (["assets", "verify", "--help"], 0), (["preproces"], 2)):
        command = f"import atexit, ctypes, sys, sfumato; {spoil}; {late}; sys.argv[1:] = {arguments}; sfumato.command()"
        ends = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
        assert ends.returncode == code, ends.stderr
        assert "cleaned up" in ends.stdout
