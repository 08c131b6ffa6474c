"""Learners and batches of random frames."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.config import TrainConfig
from training.episodes.batch import Batch
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
from training.warp.apply import warp_with_field
from training.warp.field import WarpField
from training.warp.matted_shot import make_shot

CPU = torch.device("cpu")
MakeLearner = Callable[[TrainConfig], Learner]


@pytest.fixture
def make_learner(random_perceptual: PerceptualNetwork) -> MakeLearner:
    def make(config: TrainConfig) -> Learner:
        table = IdentityRows([f"v{i}" for i in range(6)], config.model.embedding_size, learning_rate=1e-3)
        return Learner(config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), CPU)

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """`make_batch(seed, size, warp_prior=...)`: random frames of 32 px with two shots."""
    return _make_batch


def _make_batch(seed: int = 0, size: int = 4, *, warp_prior: bool = False) -> Batch:
    random = torch.Generator().manual_seed(seed)

    def pictures(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, 32, 32, generator=random) * 2 - 1

    unbent = WarpField.spline_only(torch.zeros(size, 32, 32, 2))
    person = torch.rand(size, 32, 32, generator=random)
    warped = warp_with_field(make_shot(pictures(size), person), pictures(size), unbent) if warp_prior else None
    rows = torch.arange(size) + seed % 2
    face = torch.rand(size, 68, 2, generator=random) * 2 - 1
    return Batch(rows, pictures(size, 2), pictures(size, 2), pictures(size), pictures(size), face, warped)
