"""Execution of a step: micro-batches, memory format, precision, snapshots."""

import dataclasses
import subprocess
import sys
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


_COMPILED = """
import dataclasses, torch
from training.config import ExecutionConfig, ModelConfig, TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import SingleProcess
from training.meta_training.plan.counted_step import random_batch
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
compiled = torch.nn.Module.compile
# Traced and run as they are: generating code takes minutes.
torch.nn.Module.compile = lambda self: compiled(self, backend="eager")
torch.set_num_threads(1)
model = ModelConfig(32, (4, 8), (4, 8), 1, 8, 16, warp_prior=True)
for wanted in (False, True):
    config = TrainConfig(model=model, perceptual="alexnet", num_shots=2, engine=ExecutionConfig(compile=wanted))
    torch.manual_seed(0)
    losses, table = LossNetworks(config.losses, PerceptualNetwork("alexnet")), IdentityRows("ab", 8, learning_rate=1e-3)
    learner, batch = Learner(config, table, losses, SingleProcess(), torch.device("cpu")), random_batch(config, 2)
    print(*(float(learner.step(batch).metrics["generator"]) for _ in range(2)))
"""


@pytest.mark.long  # torch traces every layer
def test_compiled_networks_have_the_same_losses() -> None:
    # In a process of its own: torch cannot trace the tests' type checker.
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _COMPILED], capture_output=True, text=True, check=True)
    as_they_are, compiled = (list(map(float, line.split())) for line in done.stdout.splitlines())
    assert compiled == pytest.approx(as_they_are, rel=1e-5)
