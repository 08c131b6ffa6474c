"""Real Ray Train: two workers, a Ctrl-C, a resume; one MLflow run holds both halves."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import load_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_the_workers_last_line_is_the_message() -> None:
    from training.meta_training.ray_train import _last_line

    assert (
        _last_line(RuntimeError("Traceback ...\n  File x\nValueError: no such data\n\n")) == "ValueError: no such data"
    )
    assert _last_line(RuntimeError()) == "RuntimeError"


def test_a_damaged_shard_is_the_users_error_and_a_bug_is_not() -> None:
    from training.meta_training.ray_train import _worker_error

    for line, kind, message in (
        ("ValueError: part-00001.parquet: frame 5 of clip a is damaged", ValueError, "part-00001.parquet: frame 5 of"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", OSError, "[Errno 2] No such file"),
        (
            "OSError: gs://b/x: storage request failed: HttpError: busy, 503",
            OSError,
            "gs://b/x: storage request failed",
        ),
        ("KeyError: 'rows'", RuntimeError, "KeyError: 'rows'"),
        ("ValueError", RuntimeError, "ValueError"),
    ):
        error = _worker_error(line)
        assert type(error) is kind
        assert str(error).startswith(message)


def test_ctrl_c_waits_for_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 takes a thread for finished when a signal interrupts `join`."""
    from training.meta_training import ray_train

    class Trainer(ray_train.TorchTrainer):  # type: ignore[misc]
        stop_wanted = finished = False

        def __init__(self) -> None:
            """Nothing of Ray's."""

        def fit(self) -> str:
            while not self.stop_wanted:
                time.sleep(0.01)
            time.sleep(0.3)  # writes the checkpoint
            self.finished = True
            return "result"

    class Control:
        def __init__(self, trainer: Trainer) -> None:
            self.progress, self.request_stop = self, self
            self.trainer = trainer

        def remote(self) -> tuple[int, dict[str, float]]:
            self.trainer.stop_wanted = pressed.is_set()
            return 5, {}

    monkeypatch.setattr(ray_train.ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray_train, "_POLL_SECONDS", 0.2)
    trainer, pressed = Trainer(), threading.Event()
    seen: list[tuple[int, Mapping[str, float]]] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(
            lambda: ray_train._fit_in_thread(trainer, Control(trainer), lambda *news: seen.append(news)), seen, pressed
        )
    assert trainer.finished


class Command:
    """`sfumato meta-train` in a process group of its own, as a terminal starts it."""

    def __init__(self, *arguments: str) -> None:
        # Tests in the background of a shell script inherit a SIGINT that is ignored.
        heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
        program = f"import signal, sys, sfumato; {heed}; sfumato.command()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "meta-train", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        )

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err


def history(uri: str, name: str) -> tuple[str, list[int]]:
    """The status of the one run there is, and the steps at which a metric was logged."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sfumato")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    if not runs:
        return "", []
    (run,) = runs
    return run.info.status, [metric.step for metric in client.get_metric_history(run.info.run_id, name)]


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """`start("--data", ...)`: a command that does not outlive the test."""
    started: list[Command] = []

    def make(*arguments: str) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield make
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.communicate()


@pytest.mark.long
def test_69_70_87_ctrl_c_a_second_process_and_a_damaged_checkpoint(
    tmp_path: Path, make_dataset: Callable[..., ShardDataset], start: Callable[..., Command], ray_address: str
) -> None:
    run, uri = tmp_path / "run", f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ["--data", make_dataset("ann/v1", "bob/v1", "cyd/v1").root, "-o", str(run), "--mlflow", uri]
    arguments += ["--ray-address", ray_address, "--episodes-per-step", "2", "--workers", "2"]
    command = start(*arguments, "--num-steps", "100000")
    # The tables are made by the command: two who make them at once spoil them.
    while not (run / "run.json").exists() or not history(uri, "content")[1]:
        assert command.process.poll() is None, command.end()
        time.sleep(0.5)
    code, _, said = start(*arguments, "--num-steps", "100000").end()
    assert code == 1
    assert f"{run} is being trained by process {command.process.pid} on" in said
    command.ctrl_c()
    code, _, said = command.end()
    assert code == 130, said
    assert "stopping at the next checkpoint; Ctrl-C again to stop without it" in said
    assert said.endswith("sfumato meta-train: interrupted: run the same command again to resume\n")
    assert "Traceback" not in said
    status, steps = history(uri, "content")
    assert status == "KILLED"
    (checkpoint,) = (run / "checkpoints" / "meta-train").glob("step-*")
    stopped = json.loads((checkpoint / "config.json").read_text())["origin"]["step"]
    assert stopped == steps[-1] >= 10

    newer = checkpoint.with_name(f"step-{stopped + 50:08d}-9")
    shutil.copytree(checkpoint, newer)
    data = bytearray((newer / "generator.safetensors").read_bytes())
    data[-1] ^= 1
    (newer / "generator.safetensors").write_bytes(data)
    code, out, said = start(*arguments, "--num-steps", str(stopped + 4), "--workers", "1").end()
    assert code == 0, said
    assert f"{newer}/generator.safetensors is damaged: its sha256 is" in out
    model = load_bundle(str(run))
    assert model.origin.step == stopped + 4
    assert model.origin.images_seen == 2 * (stopped + 4)
    status, steps = history(uri, "content")
    assert status == "FINISHED"
    assert steps == [*range(10, stopped + 1, 10), stopped + 4]  # none missing, none twice
    assert not (run / "lease.json").exists()

    further, seen = tmp_path / "further", model.origin.images_seen
    arguments[3], arguments[-1] = str(further), "1"
    code, _, said = start(*arguments, "--num-steps", "3", "--init-from", str(run), "--learning-rate", "1e-5").end()
    assert code == 0, said
    begun = load_bundle(str(further))
    assert (begun.origin.step, begun.origin.images_seen) == (3, seen + 6)
    assert (
        f"- Began with: base model `{model.version[:12]}`, {seen:,} of the images seen"
        in (further / "README.md").read_text()
    )
    # Three steps of 1e-5, and not other weights at random.
    old, new = model.generator.state_dict(), begun.generator.state_dict()
    assert max(float((new[name] - old[name]).abs().max()) for name in old if name.endswith("weight")) < 1e-4


def _interrupted(
    action: Callable[[], object], seen: list[tuple[int, Mapping[str, float]]], pressed: threading.Event
) -> None:
    """Press Ctrl-C once training has made a few steps."""

    def press() -> None:
        while not any(step >= 3 for step, _ in seen):
            time.sleep(0.05)
        pressed.set()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=press, daemon=True).start()
    try:
        action()
    finally:
        signal.signal(signal.SIGINT, before)
