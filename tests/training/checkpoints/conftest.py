"""A tiny model and its bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.checkpoints.bundle import TrainingProvenance
from training.config import TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

ORIGIN = TrainingProvenance(7, 28, "set", "d" * 64)


@pytest.fixture
def learner(random_perceptual: PerceptualNetwork, tiny_train: Callable[..., TrainConfig]) -> Learner:
    config = tiny_train()
    table = IdentityRows(("a/1", "b/1"), config.model.embedding_size, learning_rate=0.1)
    return Learner(config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), torch.device("cpu"))


@pytest.fixture
def bundle(learner: Learner, tmp_path: Path) -> Path:
    save_bundle(str(tmp_path / "model"), learner.snapshot(), ORIGIN)
    return tmp_path / "model"
