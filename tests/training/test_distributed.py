"""Real Ray Train: two workers, a Ctrl-C, a resume; one MLflow run holds both halves."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipelines.shards import ShardDataset
from training.checkpoint import load_bundle
from training.config import TrainConfig
from training.records import Tags

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_stop_answers_every_worker_alike_about_a_step() -> None:
    from training.distributed import _Control

    control = _Control()
    assert not control.stop(10)
    control.request_stop()
    assert not control.stop(10)  # the other worker was told to go on: so is this one
    assert control.stop(20)
    assert control.stop(20)
    control.report(20, {"content": 1.0})
    assert control.progress() == (20, {"content": 1.0})


def test_records_wait_for_the_command_and_are_fetched_once() -> None:
    from training.distributed import _Control

    control = _Control()
    for name in "ab":
        control.record(Tags({"name": name}))
    assert control.take_records() == [Tags({"name": "a"}), Tags({"name": "b"})]
    assert control.take_records() == []


def test_the_workers_last_line_is_the_message() -> None:
    from training.distributed import _last_line

    assert (
        _last_line(RuntimeError("Traceback ...\n  File x\nValueError: no such data\n\n")) == "ValueError: no such data"
    )
    assert _last_line(RuntimeError()) == "RuntimeError"


def test_a_damaged_shard_is_the_users_error_and_a_bug_is_not() -> None:
    from training.distributed import _worker_error

    for line, kind, message in (
        ("ValueError: part-00001.parquet: frame 5 of clip a is damaged", ValueError, "part-00001.parquet: frame 5 of"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", OSError, "[Errno 2] No such file"),
        ("OSError: gs://b/x: the store refuses: HttpError: busy, 503", OSError, "gs://b/x: the store refuses"),
        ("KeyError: 'rows'", RuntimeError, "KeyError: 'rows'"),
        ("ValueError", RuntimeError, "ValueError"),
    ):
        error = _worker_error(line)
        assert type(error) is kind
        assert str(error).startswith(message)


def test_ctrl_c_waits_for_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 takes a thread for finished when a signal interrupts `join`."""
    from training import distributed

    class Trainer(distributed.TorchTrainer):  # type: ignore[misc]
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

    monkeypatch.setattr(distributed.ray, "get", lambda answer: answer)
    monkeypatch.setattr(distributed, "_POLL_SECONDS", 0.2)
    trainer, pressed = Trainer(), threading.Event()
    seen: list[tuple[int, Mapping[str, float]]] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(
            lambda: distributed._watch(trainer, Control(trainer), lambda *news: seen.append(news)), seen, pressed
        )
    assert trainer.finished


def test_a_run_that_was_interrupted_resumes_where_it_stopped(
    tmp_path: Path, tiny_train: Callable[..., TrainConfig], make_dataset: Callable[..., ShardDataset]
) -> None:
    from mlflow.tracking import MlflowClient

    from training.distributed import Cluster, fit
    from training.tracker import Target, start_run

    dataset, run = make_dataset("ann/v1", "bob/v1", "cyd/v1"), str(tmp_path / "run")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    cluster = Cluster(num_workers=2, gpus=False, address=None)
    seen: list[tuple[int, Mapping[str, float]]] = []

    def train(num_steps: int, resume: str | None) -> tuple[str, str]:
        config = tiny_train(warp_prior=True, num_steps=num_steps)
        target = Target(uri, (tmp_path / "files").as_uri(), "test", "run", "k" * 32, resume)
        tracker = start_run(target, str(tmp_path / "journal"), config=config, dataset=dataset)
        try:
            folder = fit(config, dataset.root, run, cluster, tracker, lambda *news: seen.append(news))
            return str(tracker.run_id), folder
        finally:
            tracker.finish("FINISHED")

    with pytest.raises(KeyboardInterrupt):
        _interrupted(lambda: train(100_000, None), seen)
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'test'")
    (half,) = client.search_runs([experiment.experiment_id])
    stopped = max(metric.step for metric in client.get_metric_history(half.info.run_id, "content"))
    assert stopped >= 1
    run_id, folder = train(stopped + 4, half.info.run_id)
    assert run_id == half.info.run_id
    model = load_bundle(folder)
    assert model.origin.step == stopped + 4
    assert model.origin.images_seen == 4 * (stopped + 4)
    assert model.origin.dataset_digest == dataset.manifest.digest
    history = [metric.step for metric in client.get_metric_history(run_id, "content")]
    assert history == list(range(1, stopped + 5))  # none missing, none done twice
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert len(client.list_artifacts(run_id, "samples")) == 1


def _interrupted(
    action: Callable[[], object], seen: list[tuple[int, Mapping[str, float]]], pressed: threading.Event | None = None
) -> None:
    """Press Ctrl-C once training has made a few steps."""

    def press() -> None:
        while not any(step >= 3 for step, _ in seen):
            time.sleep(0.05)
        if pressed is not None:
            pressed.set()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=press, daemon=True).start()
    try:
        action()
    finally:
        signal.signal(signal.SIGINT, before)
