"""Execution of a step: micro-batches, memory format, precision, snapshots."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.config import ExecutionConfig, ModelConfig, TrainConfig
from training.episodes.batch import Batch
from training.meta_training.step import Learner

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]
MakeModel = Callable[..., ModelConfig]
MakeLearner = Callable[[TrainConfig], Learner]
MakeBatch = Callable[..., Batch]


def weights(learner: Learner) -> dict[str, Tensor]:
    named = {f"{n}.{k}": v.clone() for n, net in learner.networks().items() for k, v in net.state_dict().items()}
    named |= {f"ema.{k}": v.clone() for k, v in learner.generator_ema.shadow.items()}
    return named | {f"table.{k}": v.clone() for k, v in learner.table.state().items()}


def steps_with(
    make_batch: MakeBatch, engine: ExecutionConfig, config: TrainConfig, make_learner: MakeLearner
) -> tuple[Learner, list[float]]:
    """A learner after three steps, and the content loss of each."""
    learner = make_learner(dataclasses.replace(config, engine=engine))
    content = [
        learner.step(make_batch(number, 5, warp_prior=config.model.warp_prior)).metrics["content"]
        for number in range(3)
    ]
    return learner, [float(value) for value in content]


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_batch_in_parts_gives_the_weights_of_the_whole(
    make_batch: MakeBatch, micro_batch: int, warp_prior: bool, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    config = tiny_train(warp_prior=warp_prior, learning_rate=5e-5, learning_rate_discriminator=2e-4)
    start = weights(make_learner(config))
    whole, content = steps_with(make_batch, ExecutionConfig(), config, make_learner)
    parts, content_of_parts = steps_with(make_batch, ExecutionConfig(micro_batch=micro_batch), config, make_learner)
    assert content_of_parts == pytest.approx(content, rel=1e-5)
    ours, theirs = weights(whole), weights(parts)
    for network in ("embedder", "generator", "discriminator", "ema", "table.rows"):
        names = [name for name in start if name.startswith(network) and not name.endswith(("._u", "._v"))]
        # A gradient that is but rounding error Adam makes a full step, so that single weights may go elsewhere.
        moved, apart = (
            sum(float((ours[name] - others[name]).abs().sum()) for name in names) for others in (start, theirs)
        )
        assert apart < 0.02 * moved, network
    assert torch.equal(parts.table.steps, whole.table.steps)


@pytest.mark.slow
def test_memory_layout_changes_nothing_and_bfloat16_little(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    config = tiny_train(warp_prior=True)
    _, content = steps_with(make_batch, ExecutionConfig(), config, make_learner)
    learner, content_last = steps_with(make_batch, ExecutionConfig(channels_last=True), config, make_learner)
    assert content_last == pytest.approx(content, rel=1e-4)
    learner, content_short = steps_with(make_batch, ExecutionConfig(precision="bfloat16"), config, make_learner)
    assert content_short == pytest.approx(content, rel=0.02)
    assert content_short != content
    for network in learner.networks().values():
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.slow
def test_a_snapshot_brings_everything_back(
    make_batch: MakeBatch, tiny_train: MakeTrain, make_learner: MakeLearner
) -> None:
    learner = make_learner(tiny_train(warp_prior=True))
    learner.step(make_batch(0, warp_prior=True))
    snapshot = learner.snapshot()
    runs = []
    for _ in range(3):  # a snapshot serves more than once
        runs.append([learner.step(make_batch(number, warp_prior=True)).metrics for number in (1, 2)])
        runs[-1].append({"weights": sum(value.double().sum() for value in weights(learner).values())})
        learner.restore(snapshot)
    assert runs[0] == runs[1] == runs[2]
    assert learner.generator_ema.num_updates == 1


def test_optimisers_of_older_checkpoints_go_on_with_ours(tiny_train: MakeTrain, make_learner: MakeLearner) -> None:
    learner = make_learner(tiny_train())
    state = learner.optimizer_state()
    for name in ("generator", "discriminator"):
        state[name]["param_groups"][0] |= {"fused": None, "foreach": True}
    learner.load_optimizer_state(state)
    for optimizer in (learner.generator_optimizer, learner.discriminator_optimizer):
        assert optimizer.param_groups[0]["fused"]  # without it, a step that is not finite would change the weights
        assert not optimizer.param_groups[0]["foreach"]
