"""Where a named base model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.checkpoints.model_registry import pin, resolve


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
    assert pin("models:/base@champion") == f"models:/base/{version.version}"
    assert pin("models:/base/1") == "models:/base/1"
    assert pin("gs://bucket/model") == "gs://bucket/model"
    for look in (resolve, pin):
        with pytest.raises(ValueError, match="models:/base@nobody cannot be had"):
            look("models:/base@nobody")
