"""Nothing of a batch and its step waits for the device; read at a log. Rehearsed on a device of tests/support."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from other_device import OTHER, watched_device

from training.config import Augmentation, LossWeights, TrainConfig
from training.episodes.augmentation import draw_augmentation
from training.episodes.batch import to_batch
from training.episodes.loader import DecodedEpisodes
from training.losses.face_identity import FaceRecogniser
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import SingleProcess
from training.meta_training.metrics.meter import Meter
from training.meta_training.nan_guard import NanGuard
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

_PEOPLE = ("ann/v1", "bob/v1", "ann/v1")


@pytest.fixture
def episodes(face: Callable[..., np.ndarray]) -> DecodedEpisodes:
    """Three episodes of two shots, two of them of the same video, in frames of 64 px."""
    landmarks = np.stack([[face(40, 32, 34, yaw=3.0 * k + e) for k in range(3)] for e in range(3)])
    random = np.random.default_rng(0)
    pictures, mattes = (random.integers(0, 256, (3, *shape), np.uint8) for shape in ((3, 64, 64, 3), (64, 64)))
    return DecodedEpisodes(_PEOPLE, pictures, landmarks, np.array([1, 2, 1]), mattes, (0, 1, 2))


class _Aligned(FaceRecogniser):
    """The recogniser's alignment with a network of none."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        for name, value in (("template", torch.rand(5, 2)), ("five", torch.tensor([45, 42, 36, 39, 33]))):
            self.register_buffer(name, value, persistent=False)

    def forward(self, frames: torch.Tensor, landmarks: torch.Tensor) -> list[torch.Tensor]:
        return 2 * [self.align(frames, landmarks).mean(dim=(2, 3))]


@pytest.mark.slow
def test_a_batch_and_its_step_never_wait_for_the_device(
    episodes: DecodedEpisodes, tiny_train: Callable[..., TrainConfig]
) -> None:
    losses = LossWeights(pixel=1.0, content_mouth=0.1, identity=0.1)
    augmentation = Augmentation(flip=True, colour=0.1, affine=0.05, camera=0.2)
    config = tiny_train(
        warp_prior=True, losses=losses, augmentation=augmentation, episodes_per_step=3, discriminator_updates=1
    )
    config = replace(config, engine=replace(config.engine, micro_batch=2))
    with watched_device() as waits:
        table = IdentityRows(sorted({*_PEOPLE}), config.model.embedding_size, learning_rate=0.1)
        networks = LossNetworks(losses, PerceptualNetwork("alexnet"), _Aligned())
        learner = Learner(config, table, networks, SingleProcess(), OTHER)
        meter, guard = Meter(learner.exchange), NanGuard(learner, None)
        waits.found.clear()
        waits.launches = 0
        draws = draw_augmentation(augmentation, 0, episodes.numbers, 3)
        batch = to_batch(episodes, table, config.model, OTHER, draws)
        # Drawing landmark images segment by segment takes 1,000 more.
        assert waits.launches < 4_600
        meter.add(guard.step(batch))
        assert waits.found == []
        guard.settle()
        means = meter.flush(3)
    assert guard.counts() == {"skipped_steps": 0, "rollbacks": 0}
    assert np.isfinite(means["generator"])
    assert len(waits.found) == 3  # two lists of the guard, one of the meter
    assert table.steps.tolist() == [2, 2]


def test_what_would_wait_is_found() -> None:
    for act in (
        lambda x: bool(x[0] > 0), float_of_first, torch.nonzero, torch.unique, lambda x: x[x > 0], lambda x: x.cpu(),
        lambda x: x[[0, 1]], lambda x: x.copy_(torch.zeros(3)), lambda x: x.tolist(),
        lambda x: torch.linalg.solve(torch.diag(x), x),
    ):  # fmt: skip
        with watched_device() as waits:
            act(torch.ones(3).to(OTHER, non_blocking=True))
        assert len(waits.found) == 1, act
    with watched_device() as waits:
        x = torch.ones(3).to(OTHER, non_blocking=True)
        x.index_select(0, torch.arange(2, device=OTHER)) + 1
    assert waits.found == []
    assert waits.launches == 4


def float_of_first(x: torch.Tensor) -> float:
    return float(x[0])
