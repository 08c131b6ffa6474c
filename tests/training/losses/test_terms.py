import pytest
import torch

from training.config import LossWeights, TrainConfig
from training.losses.terms import (
    adversarial,
    discriminator_hinge,
    distances,
    embedding_match,
    feature_matching,
    pixel,
    weighted_sum,
)


def test_l1_is_the_mean_over_a_layer_and_the_sum_over_layers() -> None:
    ours = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0])]
    theirs = [torch.tensor([[1.0, 0.0], [0.0, 4.0]]), torch.tensor([8.0])]
    assert float(feature_matching(ours, theirs)) == pytest.approx((2 + 3) / 4 + 3)
    seen = distances({"content": ours, "content_mouth": ours[:1]}, {"content": theirs, "content_mouth": theirs[:1]})
    assert {term: float(loss) for term, loss in seen.items()} == {"content": (2 + 3) / 4 + 3, "content_mouth": 5 / 4}


def test_whose_face_it_is_is_measured_by_its_own_distance() -> None:
    """A third of the stages' L1, and the squared distance of the embeddings."""
    ours, theirs = ([torch.tensor([[value, 0.0]]), torch.tensor([[0.0, value]])] for value in (3.0, 0.0))
    assert float(distances({"identity": ours}, {"identity": theirs})["identity"]) == pytest.approx(1.5 / 3 + 9)


def test_the_real_side_of_l1_gets_no_gradient() -> None:
    ours, theirs = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    feature_matching([ours], [theirs]).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    assert ours.grad.tolist() == pytest.approx([1 / 3] * 3)


def test_l1_of_unequal_numbers_of_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        feature_matching([torch.ones(1), torch.ones(1)], [torch.ones(1)])


def test_hinge_by_hand() -> None:
    # Real: max(0, 1 - 0.5) = 0.5, max(0, 1 + 2) = 3. Fake: max(0, 1 - 3) = 0, max(0, 1 + 0.25) = 1.25.
    assert float(discriminator_hinge(torch.tensor([0.5, -2.0]), torch.tensor([-3.0, 0.25]))) == pytest.approx(
        (0.5 + 3) / 2 + (0 + 1.25) / 2
    )


def test_hinge_and_its_gradient_are_zero_beyond_the_margin() -> None:
    real, fake = torch.tensor([1.5, 7.0], requires_grad=True), torch.tensor([-1.5, -7.0], requires_grad=True)
    loss = discriminator_hinge(real, fake)
    loss.backward()
    assert float(loss.detach()) == 0
    for score in (real, fake):
        assert score.grad is not None
        assert score.grad.tolist() == [0, 0]


def test_the_adversarial_term_is_minus_the_score() -> None:
    assert float(adversarial(torch.tensor([3.0, -1.0]))) == -1


def test_embedding_match_is_the_mean_over_batch_and_vector() -> None:
    assert float(embedding_match(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))) == 1.5


def test_the_loss_of_pixels_is_their_mean_distance() -> None:
    ours, theirs = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    theirs[0, :, 0, 0] = 1.0
    theirs[1, 0, 0, 1] = -0.6
    assert float(pixel(ours, theirs)) == pytest.approx(3.6 / 12)


def test_terms_are_weighted_by_their_names() -> None:
    weights = LossWeights(content=2.0, adversarial=3.0, feature_matching=5.0, embedding_match=7.0)
    terms = {"embedding_match": torch.tensor(1.0), "content": torch.tensor(10.0), "adversarial": torch.tensor(-1.0)}
    assert float(weighted_sum(terms, weights)) == 7 + 20 - 3
    with pytest.raises(AttributeError, match="contentment"):
        weighted_sum({"contentment": torch.tensor(1.0)}, weights)


def test_the_published_weights_are_the_defaults() -> None:
    assert LossWeights() == LossWeights(0.15, 0.025, 1.0, 10.0, 10.0, 0.0)
    config = TrainConfig()
    assert (config.learning_rate, config.learning_rate_discriminator) == (5e-5, 2e-4)
    assert (config.num_shots, config.discriminator_updates, config.ema_decay) == (8, 2, 0.999)


@pytest.mark.parametrize(("wrong", "message"), [({"num_shots": 0}, "num_shots must be at least 1, not 0")])
def test_a_run_without_shots_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ema_decay must be in \[0, 1\), not 1.0"):
        TrainConfig(ema_decay=1.0)
