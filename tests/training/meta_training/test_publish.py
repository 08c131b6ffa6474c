import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipelines import storage
from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import MANIFEST, TrainingProvenance, load_bundle
from training.checkpoints.model_card import Training
from training.config import TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.publish import publish
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
from training.tracking.pending_records import PendingRecords
from training.tracking.records import Files, Record, Registration
from training.tracking.sender import Unreachable
from training.tracking.target import Target
from training.tracking.tracker import Tracker

TRAINING = Training("demo", "sfumato meta-train demo", "1", ("then",), "now", {}, {})
FILES = {
    "README.md", "config.json", "discriminator.safetensors", "ema_embedder.safetensors", "ema_generator.safetensors",
    "embedder.safetensors", "generator.safetensors", "identity_rows.parquet", "identity_rows.safetensors",
    "manifest.json", "optimizer.pt",
}  # fmt: skip


@pytest.fixture
def checkpoint(random_perceptual: PerceptualNetwork, tiny_train: Callable[..., TrainConfig], tmp_path: Path) -> Path:
    config = tiny_train()
    table = IdentityRows(("a/1", "b/1"), config.model.embedding_size, learning_rate=0.1)
    learner = Learner(
        config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), torch.device("cpu")
    )
    save_bundle(str(tmp_path / "checkpoint"), learner.snapshot(), TrainingProvenance(3, 12, "set", "d" * 64))
    return tmp_path / "checkpoint"


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Tracker]:
    """Its MLflow is away: what it would say stays in its journal."""

    def connect(tracker: Tracker) -> None:
        raise Unreachable("away")

    monkeypatch.setattr(Tracker, "_connect", connect)
    tracker = Tracker(Target("http://127.0.0.1:1", None, "e", "n", "k"), str(tmp_path / "journal"))
    yield tracker
    tracker.finish(None)


@pytest.mark.slow
def test_the_newest_checkpoint_becomes_the_model_with_its_card(
    checkpoint: Path, make_dataset: Callable[..., ShardDataset], tmp_path: Path, tracker: Tracker
) -> None:
    out = str(tmp_path / "model")
    manifest = make_dataset("ann/v1").manifest
    assert publish(str(checkpoint), out, manifest, TRAINING, tracker) == "models:/sfumato-base@champion"
    assert "are kept in" in tracker.finish("FINISHED")
    model = load_bundle(out)
    assert model.version == load_bundle(str(checkpoint)).version
    assert {path.name for path in Path(out).iterdir()} == FILES
    card = Path(out, "README.md").read_text()
    sizes = sum(parameter.numel() for parameter in model.generator.parameters()) / 1e6
    assert f"generator (G) {sizes:.2f} M" in card
    for name in FILES - {"README.md"}:
        assert hashlib.sha256(Path(out, name).read_bytes()).hexdigest() in card
    records: list[Record] = PendingRecords(str(tmp_path / "journal")).first()
    files, registration = records[0], records[1]
    assert isinstance(files, Files)
    assert (files.folder, {*files.names}, files.names[-1]) == (out, FILES, MANIFEST)
    assert isinstance(registration, Registration)
    assert registration.version == model.version
    assert registration.tags["step"] == "3"


@pytest.mark.slow
def test_an_older_model_that_was_half_overwritten_is_none(
    checkpoint: Path,
    make_dataset: Callable[..., ShardDataset],
    tmp_path: Path,
    tracker: Tracker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the next start goes on from the checkpoint instead of stumbling over a damaged model."""
    out = tmp_path / "model"
    publish(str(checkpoint), str(out), make_dataset("ann/v1").manifest, TRAINING, tracker)
    write = storage.write_bytes

    def full(url: str, data: bytes) -> None:
        if url.endswith("ema_generator.safetensors"):
            raise OSError(28, "No space left on device", url)
        write(url, data)

    monkeypatch.setattr(storage, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        publish(str(checkpoint), str(out), make_dataset("ann/v1").manifest, TRAINING, tracker)
    assert not (out / MANIFEST).exists()
    assert json.loads((checkpoint / MANIFEST).read_text())
    monkeypatch.undo()
