import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.config import LossWeights, ModelConfig, TrainConfig
from training.episodes.batch import Batch
from training.losses.face_identity import FaceRecogniser
from training.losses.loss_networks import LossNetworks, load_loss_networks
from training.losses.perceptual import PerceptualNetwork
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training import step
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner, Outcome
from training.models.identity_rows import IdentityRows

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]
MakeModel = Callable[..., ModelConfig]
MakeLearner = Callable[[TrainConfig], Learner]
MakeBatch = Callable[..., Batch]


def floats(outcome: Outcome) -> dict[str, float]:
    return {name: float(value) for name, value in outcome.metrics.items()}


def weights(learner: Learner) -> dict[str, Tensor]:
    named = {f"{n}.{k}": v.clone() for n, net in learner.networks().items() for k, v in net.state_dict().items()}
    named |= {f"ema.{k}": v.clone() for k, v in learner.generator_ema.shadow.items()}
    return named | {f"table.{k}": v.clone() for k, v in learner.table.state().items()}


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_the_same_seed_gives_the_same_loss_to_the_last_digit(
    make_batch: MakeBatch, warp_prior: bool, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    runs = []
    for _ in range(2):
        torch.rand(7)  # whatever else drew random numbers before
        learner = make_learner(tiny_train(warp_prior=warp_prior))
        runs.append([learner.step(make_batch(number, warp_prior=warp_prior)).metrics for number in range(3)])
    assert runs[0] == runs[1]
    assert ("painted_share" in runs[0][0]) == warp_prior
    absent = {"content_face", "content_mouth", "identity", "pixel"}  # AlexNet knows no faces; the paper not the others
    terms = {field.name for field in dataclasses.fields(LossWeights)} - absent
    assert terms <= runs[0][0].keys()


@pytest.mark.slow
def test_the_published_pair_gives_two_terms_each_with_its_own_weight(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner, published_files: PerceptualFiles
) -> None:
    def make(config: TrainConfig) -> Learner:
        config = dataclasses.replace(config, perceptual="vgg19_vggface")
        learner = make_learner(config)
        learner.loss_networks = load_loss_networks(config, published_files)
        return learner

    batch = make_batch()
    both = floats(make(tiny_train(losses=LossWeights(content=2.0, content_face=3.0))).step(batch))
    other = ("adversarial", 1.0), ("feature_matching", 10.0), ("embedding_match", 10.0)
    rest = sum(weight * both[name] for name, weight in other)
    assert both["generator"] == pytest.approx(2 * both["content"] + 3 * both["content_face"] + rest, rel=1e-5)
    assert both["content"] != both["content_face"]
    alone = floats(make(tiny_train(losses=LossWeights(content=2.0, content_face=0.0))).step(batch))
    assert alone["generator"] == pytest.approx(both["generator"] - 3 * both["content_face"], rel=1e-4)


@pytest.mark.slow
def test_a_loss_of_pixels_is_added_where_it_has_a_weight(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    batch = make_batch(warp_prior=True)
    without = floats(make_learner(tiny_train(warp_prior=True)).step(batch))
    assert "pixel" not in without
    held = floats(make_learner(tiny_train(warp_prior=True, losses=LossWeights(pixel=50.0))).step(batch))
    # Nothing is painted before the first update: what is shown is the warp.
    assert batch.warped is not None
    assert held["pixel"] == pytest.approx(float((batch.warped.frame[:, :3] - batch.target).abs().mean()), rel=1e-3)
    assert held["generator"] == pytest.approx(without["generator"] + 50 * held["pixel"], rel=1e-5)


@pytest.mark.slow
def test_a_loss_of_the_mouth_is_added_where_it_has_a_weight(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    batch = make_batch(warp_prior=True)
    without = floats(make_learner(tiny_train(warp_prior=True)).step(batch))
    assert "content_mouth" not in without
    held = floats(make_learner(tiny_train(warp_prior=True, losses=LossWeights(content_mouth=0.1))).step(batch))
    assert held["content_mouth"] > 0
    assert held["generator"] == pytest.approx(without["generator"] + 0.1 * held["content_mouth"], rel=1e-5)


class _Brightness(FaceRecogniser):
    """Sees how bright a picture is, at one stage and as its embedding."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, frames: Tensor, landmarks: Tensor) -> list[Tensor]:
        return [frames.mean(dim=(2, 3)), 10 * frames.mean(dim=(2, 3)) + landmarks.sum()]


@pytest.mark.slow
def test_a_loss_of_identity_is_added_where_there_is_a_recogniser(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner, random_perceptual: PerceptualNetwork
) -> None:
    batch, config = make_batch(warp_prior=True), tiny_train(warp_prior=True, losses=LossWeights(identity=7.0))
    without = floats(make_learner(config).step(batch))
    assert "identity" not in without
    table = IdentityRows([f"v{i}" for i in range(6)], config.model.embedding_size, learning_rate=1e-3)
    loss_networks = LossNetworks(config.losses, random_perceptual, _Brightness())
    held = floats(Learner(config, table, loss_networks, SingleProcess(), CPU).step(batch))
    # Nothing is painted before the first update: what is shown is the warp.
    assert batch.warped is not None
    darker = (batch.warped.frame[:, :3] - batch.target).mean(dim=(2, 3))
    expected = 100 * darker.square().sum(dim=1).mean() + darker.abs().mean() / 3
    assert held["identity"] == pytest.approx(float(expected), rel=1e-3)
    assert held["generator"] == pytest.approx(without["generator"] + 7 * held["identity"], rel=1e-5)


def test_another_seed_gives_other_weights(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    a, b = (make_learner(tiny_train(seed=seed)).step(make_batch()).metrics for seed in (0, 1))
    assert a["content"] != b["content"]


def test_a_step_moves_every_network_and_the_batchs_rows(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner = make_learner(tiny_train())
    before = weights(learner)
    rows = learner.table.rows.clone()
    learner.step(make_batch())
    after = weights(learner)
    still = {name for name in before if torch.equal(before[name], after[name])}
    # While gamma is zero, what an attention asks and answers has no effect and no gradient.
    assert {name.split(".parametrizations")[0].split(".")[-1] for name in still} <= {"query", "key", "value", "bias"}
    assert not any("embedder.body.0" in name or "discriminator.w0" in name or "projection" in name for name in still)
    assert not torch.isclose(learner.table.rows[:4], rows[:4]).all(dim=1).any()
    assert torch.equal(learner.table.rows[4:], rows[4:])
    # Two updates of the discriminator, one of the generator: W takes part in each.
    assert learner.table.steps.tolist() == [3, 3, 3, 3, 0, 0]
    assert learner.generator_ema.num_updates == 1


def test_no_gradient_reaches_the_discriminator_in_the_generators_phase(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner, batch = make_learner(tiny_train()), make_batch()
    for parameter in learner.discriminator.parameters():
        parameter.grad = None
    learner._generator_phase([batch], None, len(batch))
    assert all(parameter.grad is None for parameter in learner.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in learner.discriminator.parameters())
    assert sum(parameter.grad is not None for parameter in learner.generator_parameters) > 20


def test_no_gradient_reaches_the_generator_in_the_discriminators_phase(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner, batch = make_learner(tiny_train()), make_batch()
    learner._discriminator_phase([batch], [batch.shots[:, 0]], len(batch))
    assert all(parameter.grad is None for parameter in learner.generator_parameters)


class _Recorder(SingleProcess):
    """Notes the gradients of the rows."""

    def __init__(self) -> None:
        self.row_gradients: list[Tensor] = []

    def gather_rows(self, indices: Tensor, gradients: Tensor, num_episodes: int) -> tuple[Tensor, Tensor]:
        self.row_gradients.append(gradients.clone())
        return indices, gradients


def test_rows_learn_from_the_real_score_and_the_match_alone(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "advance_spectral_norms", lambda network: None)  # the weights hold still
    learner, batch = make_learner(tiny_train(losses=LossWeights(embedding_match=3.0))), make_batch()
    learner.exchange = recorder = _Recorder()
    rows = learner.table.rows[:4].clone().requires_grad_(True)
    real = learner.discriminator(batch.target, batch.target_landmark_image, rows).score
    torch.relu(1 - real).mean().backward()
    learner._discriminator_phase([batch], [batch.shots[:, 0]], len(batch))
    assert rows.grad is not None
    assert torch.allclose(recorder.row_gradients[0], rows.grad, atol=1e-6)
    # 3 * |e - W| averaged over 4 x 8 values: the sign of W - e, times 3 / 32.
    embedding = learner.embedder.embed_shots(batch.shots, batch.shot_landmark_images)
    expected = torch.sign(learner.table.rows[:4] - embedding.detach()) * 3 / 32
    learner._generator_phase([batch], None, len(batch))
    assert torch.allclose(recorder.row_gradients[1], expected, atol=1e-7)


def test_without_the_embedding_match_rows_learn_from_the_real_score_only(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner = make_learner(tiny_train(losses=LossWeights(embedding_match=0.0)))
    learner.exchange = recorder = _Recorder()
    learner.step(make_batch())
    assert float(recorder.row_gradients[-1].abs().max()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["target", "shots", "target_landmark_image"])
def test_a_batch_with_nan_changes_nothing_that_is_saved(
    make_batch: MakeBatch, where: str, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner = make_learner(tiny_train())
    learner.step(make_batch(0))
    before = weights(learner)
    batch = make_batch(1)
    getattr(batch, where)[0, ..., 5, 5] = float("nan")
    outcome = learner.step(batch)
    assert not outcome.finite
    assert outcome.norm.isnan()
    after = weights(learner)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    # The power iteration of spectral norm runs with each forward pass; it sees weights alone.
    assert [name for name in changed if not name.endswith(("._u", "._v"))] == []
    assert all(torch.isfinite(value).all() for value in after.values())
    assert learner.generator_ema.num_updates == 1
    outcome = learner.step(make_batch(2))
    assert outcome.finite
    assert all(torch.isfinite(value) for value in outcome.metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_the_content_falls_on_one_batch(
    make_batch: MakeBatch, warp_prior: bool, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner = make_learner(tiny_train(warp_prior=warp_prior, learning_rate=5e-3, losses=LossWeights(content=10.0)))
    batch = make_batch(warp_prior=warp_prior)
    content = [float(learner.step(batch).metrics["content"]) for _ in range(15)]
    assert min(content[-3:]) < 0.98 * content[0]
