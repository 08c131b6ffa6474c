"""`sfumato fine-tune` with models from the MLflow registry, through the command."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sfumato
from pipelines import assets
from pipelines.dataset.reader import ShardDataset
from training.avatars import finetune
from training.checkpoints.bundle import TrainingProvenance, load_bundle
from training.config import TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

PICTURE = str(Path(assets.__file__).parent / "data" / "mona_lisa.jpg")
REGISTERED = "models:/base@champion"

# MLflow warns on import and in its database layer.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def version(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_train: Callable[..., TrainConfig],
    random_perceptual: PerceptualNetwork,
    mlflow_uri: str,
) -> str:
    """The version of a bundle that is registered as `REGISTERED`."""
    from mlflow.tracking import MlflowClient

    config = tiny_train()
    table = IdentityRows(["ann/v1"], config.model.embedding_size, learning_rate=0.1)
    networks = LossNetworks(config.losses, random_perceptual)
    learner = Learner(config, table, networks, SingleProcess(), torch.device("cpu"))
    save_bundle(str(tmp_path / "model"), learner.snapshot(), TrainingProvenance(0, 0, "set", "d" * 64))
    client = MlflowClient(mlflow_uri)
    run = client.create_run(client.create_experiment("e", artifact_location=str(tmp_path / "artifacts")))
    client.log_artifacts(run.info.run_id, str(tmp_path / "model"), "model")
    client.create_registered_model("base")
    made = client.create_model_version("base", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
    client.set_registered_model_alias("base", "champion", made.version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return load_bundle(str(tmp_path / "model")).version


def test_a_registered_model_is_fine_tuned(version: str, tmp_path: Path) -> None:
    out = tmp_path / "avatar"
    assert sfumato.main(["fine-tune", PICTURE, "-m", REGISTERED, "--num-steps", "0", "-o", str(out)]) == 0
    assert json.loads((out / "manifest.json").read_bytes())["base_version"] == version


def test_a_name_that_is_not_registered_is_one_line(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del version  # only the registry is needed
    assert sfumato.main(["fine-tune", PICTURE, "-m", "models:/base@nobody", "-o", str(tmp_path / "avatar")]) == 1
    assert "models:/base@nobody cannot be had from sqlite" in capsys.readouterr().err


def test_a_registered_model_is_evaluated(
    version: str, tmp_path: Path, make_dataset: Callable[..., ShardDataset]
) -> None:
    data, out = make_dataset("ann/v1", num_frames=10).root, tmp_path / "report"
    arguments = ["evaluate", REGISTERED, "--data", data, "--split", "train", "--shots", "1", "-o", str(out)]
    assert sfumato.main([*arguments, "--compare", f"again={REGISTERED}"]) == 0
    methods = {row["method"] for row in json.loads((out / "report.json").read_text())["tables"][0]["rows"]}
    assert {"ours", "again"} <= methods
    assert version


def test_a_device_that_is_not_here_is_one_line(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_sfumato("fine-tune", PICTURE, "--device", "cuda:99", "-o", str(tmp_path / "avatar"))
    assert done.returncode == 1
    assert done.stderr == "sfumato fine-tune: error: --device cuda:99: there is no such CUDA device here\n"


def test_too_little_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(finetune, "make_training_frames", full)
    arguments = ["fine-tune", PICTURE, "--num-steps", "1", "--device", "cpu", "-o", str(tmp_path / "avatar")]
    assert sfumato.main(arguments) == 1
    assert capsys.readouterr().err.endswith("error: --device cpu: too little memory for this model\n")
