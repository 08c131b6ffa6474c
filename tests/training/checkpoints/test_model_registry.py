"""Where a named base model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.checkpoints.bundle import write_with_manifest
from training.checkpoints.model_registry import pinned, resolve
from training.meta_training.run_config import initial_model, keep_initial_model


def bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_a_folder_with_a_manifest_is_itself(tmp_path: Path) -> None:
    assert resolve(str(bundle(tmp_path / "model"))) == str(tmp_path / "model")


def test_a_missing_path_and_a_folder_of_something_else_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        resolve(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no base model"):
        resolve(str(tmp_path))


def test_without_a_registry_a_name_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI"):
        resolve("models:/sfumato-base@champion")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and from its database layer
def test_a_registered_name_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_uri: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_uri)
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(bundle(tmp_path / "model")), "model")
    client.create_registered_model("base")
    version = client.create_model_version("base", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
    client.set_registered_model_alias("base", "champion", version.version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    assert (Path(resolve("models:/base@champion")) / "manifest.json").read_text() == "{}"
    assert pinned("models:/base@champion") == "models:/base/1"
    assert [pinned(each) for each in ("models:/base/1", "gs://b/a@b", "shipped")] == [
        "models:/base/1",
        "gs://b/a@b",
        "shipped",
    ]
    for asks in (resolve, pinned):
        with pytest.raises(ValueError, match="models:/base@nobody cannot be had"):
            asks("models:/base@nobody")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_keeps_the_registered_model_that_it_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_uri: str
) -> None:
    """A restart after the alias has moved, which a finished run does itself, starts from the same model."""
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client, run, name = MlflowClient(mlflow_uri), str(tmp_path / "run"), "models:/base@champion"
    client.create_registered_model("base")
    for number in (1, 2):
        write_with_manifest(str(tmp_path / str(number)), {"config.json": f"{number}".encode()})
        client.create_model_version("base", str(tmp_path / str(number)))
    client.set_registered_model_alias("base", "champion", "1")
    found = initial_model(name, run, mlflow_uri)
    assert not Path(run).exists(), "nothing is written before the model is known to fit"
    kept = keep_initial_model(name, found, run)
    assert kept.startswith(run)
    client.set_registered_model_alias("base", "champion", "2")
    assert initial_model(name, run, mlflow_uri) == kept
    assert keep_initial_model(name, kept, run) == kept
    assert (Path(kept) / "config.json").read_bytes() == b"1"
    assert initial_model("models:/base/2", run, mlflow_uri) != kept
    assert initial_model("gs://bucket/model", run, mlflow_uri) == "gs://bucket/model"
    assert keep_initial_model("gs://bucket/model", "gs://bucket/model", run) == "gs://bucket/model"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_registry_that_is_away_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match="models:/base@champion cannot be had from http://127") as error:
        pinned("models:/base@champion")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
