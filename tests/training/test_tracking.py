import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.shards import ShardDataset
from training.config import TrainConfig

# MLflow takes seconds to import: only these tests wait for it.
pytestmark = pytest.mark.slow

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def started(
    uri: str, tmp_path: Path, tiny_train: Callable[..., TrainConfig], make_dataset: Callable[..., ShardDataset]
) -> Callable[..., object]:
    """`started(resume=...)`: a run on a small data set, its files below tmp_path."""
    from training.tracking import start_run

    dataset = make_dataset("ann/v1")

    def start(resume: str | None = None) -> object:
        return start_run(
            uri,
            (tmp_path / "files").as_uri(),
            "sfumato",
            "demo",
            config=tiny_train(warp_prior=True),
            dataset=dataset,
            resume=resume,
        )

    return start


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_one_run_holds_a_training_and_its_restart(
    uri: str, started: Callable[..., object], tmp_path: Path, make_dataset: Callable[..., ShardDataset]
) -> None:
    from mlflow.tracking import MlflowClient

    from training.tracking import ALIAS, REGISTERED_MODEL, Tracker, register

    first = started()
    assert isinstance(first, Tracker)
    first.log_metrics(1, {"content": 3.0, "generator": 5.0}, 1000)
    first.finish("KILLED")
    second = started(first.run_id)
    assert second == first
    assert isinstance(second, Tracker)
    second.log_metrics(2, {"content": 2.0}, 2000)
    second.log_samples(2, IMAGE)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "config.json").write_text("{}")
    second.log_folder(str(tmp_path / "bundle"), "model")
    second.finish("FINISHED")
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'sfumato'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (first.run_id, "demo", "FINISHED")
    history = client.get_metric_history(first.run_id, "content")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 2.0)]
    assert run.data.params["model.warp_prior"] == "True"
    assert run.data.params["losses.feature_matching"] == "10.0"
    assert run.data.params["num_shots"] == "2"
    digest = make_dataset("ann/v1").manifest.digest
    assert run.data.tags["dataset_digest"] == digest
    assert run.inputs.dataset_inputs[0].dataset.digest == digest[:36]
    assert [file.path for file in client.list_artifacts(first.run_id, "samples")] == ["samples/step-0000002.png"]
    for version in ("1", "2"):
        assert register(uri, first.run_id, "model") == "models:/sfumato-base@champion"
        assert str(client.get_model_version_by_alias(REGISTERED_MODEL, ALIAS).version) == version
    source = client.get_model_version_by_alias(REGISTERED_MODEL, ALIAS).source
    assert Path(source.removeprefix("file://"), "config.json").read_text() == "{}"


def test_training_outlives_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that went away, and a database whose folder did."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from training.tracking import Tracker

    for uri in ("http://127.0.0.1:9", f"sqlite:///{tmp_path}/gone/mlflow.db"):
        tracker = Tracker(uri, "0" * 32)
        with caplog.at_level(logging.WARNING, "training.tracking"):
            tracker.log_metrics(1, {"content": 1.0}, 1000)
            tracker.log_samples(1, IMAGE)
            tracker.log_folder(str(tmp_path), "model")
            tracker.finish("FINISHED")
        assert "training goes on" in caplog.text
        caplog.clear()
