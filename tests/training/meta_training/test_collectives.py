"""Two gloo processes against one: the same weights after a few steps."""

import multiprocessing
import os
import re
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from training.config import ModelConfig, TrainConfig
from training.episodes.batch import Batch
from training.episodes.sampler import share
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import Exchange, ProcessGroup, SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
from training.warp.apply import warp_with_field
from training.warp.field import WarpField
from training.warp.matted_shot import make_shot

CPU = torch.device("cpu")
_STEPS = 10
_EPISODES = 5  # two for one worker, three for the other


def make_config() -> TrainConfig:
    model = ModelConfig(
        image_size=32,
        generator_channels=(4, 8),
        embedder_channels=(4, 8),
        num_bottleneck_blocks=1,
        attention_size_down=8,
        attention_size_up=16,
        warp_prior=True,
    )
    return TrainConfig(model=model, perceptual="alexnet")


def make_batch(step: int, rank: int, world_size: int) -> Batch:
    """A worker's slice of a step's episodes. Rows repeat within a step and between workers."""
    random = torch.Generator().manual_seed(step)
    mine = share(_EPISODES, rank, world_size)

    def pictures(*shape: int) -> torch.Tensor:
        return (torch.rand(_EPISODES, *shape, 3, 32, 32, generator=random) * 2 - 1)[mine]

    unbent = WarpField.spline_only(torch.zeros(len(pictures()), 32, 32, 2))
    shots = pictures()
    warped = warp_with_field(make_shot(shots, (shots[:, 0] > 0).float()), pictures(), unbent)
    rows = torch.tensor([step % 5, 1, 1, 4, 0])[mine]
    return Batch(rows, pictures(2), pictures(2), pictures(), pictures(), torch.zeros(len(rows), 68, 2), warped)


def train(exchange: Exchange, device: torch.device = CPU) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # On a GPU: convolutions of float32 in float32, with sums in the same order every time.
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    config = make_config()
    table = IdentityRows("abcde", config.model.embedding_size, learning_rate=config.learning_rate_discriminator)
    learner = Learner(config, table, LossNetworks(config.losses, PerceptualNetwork("alexnet")), exchange, device)
    start = {name: value.clone() for name, value in weights_of(learner).items()}
    for step in range(_STEPS):
        batch = make_batch(step, exchange.rank, exchange.world_size)
        metrics = learner.step(on_device(batch, device), _EPISODES).metrics
    poisoned = make_batch(9, exchange.rank, exchange.world_size)
    if exchange.rank == exchange.world_size - 1:
        poisoned.target[-1] = float("nan")
    refused = not learner.step(on_device(poisoned, device), _EPISODES).finite
    return {"start": start, "weights": weights_of(learner), "metrics": metrics, "refused": bool(refused)}


def on_device(batch: Batch, device: torch.device) -> Batch:
    assert batch.warped is not None
    warped = batch.warped
    field = WarpField.spline_only(warped.field.spline.to(device))
    tensors = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    parts = {name: value.to(device) for name, value in vars(warped).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **tensors, warped=replace(warped, **parts, field=field))


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    weights = {f"{n}.{k}": v for n, net in learner.networks().items() for k, v in net.state_dict().items()}
    return {name: value.cpu().clone() for name, value in (weights | learner.table.state()).items()}


def work(rank: int, port: int, folder: str, backend: str) -> None:
    """One of two workers, in a process of its own."""
    try:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        device = CPU
        if backend == "nccl":
            device = torch.device("cuda", rank)
            torch.cuda.set_device(device)
        dist.init_process_group(backend, rank=rank, world_size=2)
        torch.save(train(ProcessGroup(), device), Path(folder) / f"{rank}.pt")
        dist.destroy_process_group()
    except Exception:
        (Path(folder) / f"{rank}.txt").write_text(traceback.format_exc())
        raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_idle_bias(name: str) -> bool:
    """Whether it is a bias whose effect a norm takes away.

    Its gradient is rounding error, which Adam makes a full step: where sums are made in another order, it differs.
    """
    return re.fullmatch(r"(generator|ema)\..*(conv\d|skip)\.bias", name) is not None


_two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gloo", pytest.param("nccl", marks=[pytest.mark.gpu, _two_gpus])])
def test_two_workers_reach_the_weights_of_one_with_the_whole_batch(tmp_path: Path, backend: str) -> None:
    port = _free_port()
    # Forked: this module is no importable one under --import-mode=importlib, and torch has one thread here.
    start: Callable[..., Any] = multiprocessing.get_context("fork").Process
    workers = [start(target=work, args=(rank, port, str(tmp_path), backend)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    errors = [path.read_text() for path in tmp_path.glob("*.txt")]
    assert [worker.exitcode for worker in workers] == [0, 0], errors
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True, map_location=CPU) for rank in range(2))
    alone = train(SingleProcess(), CPU if backend == "gloo" else torch.device("cuda", 0))
    for name, value in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        if name != "second_moments" and not _is_idle_bias(name):
            # The vectors of the power iteration turn more than weights do where two singular values are alike.
            tolerance = 1e-4 if name.endswith(("._u", "._v")) else 1e-5
            assert torch.allclose(first["weights"][name].double(), value.double(), atol=tolerance), name
    assert torch.equal(first["weights"]["steps"], alone["weights"]["steps"])
    moved = {n: float((v - alone["start"][n]).abs().max()) for n, v in alone["weights"].items() if "original" in n}
    assert sum(distance > 1e-4 for distance in moved.values()) > 0.7 * len(moved)
    assert float((alone["weights"]["rows"] - alone["start"]["rows"]).abs().max()) > 5e-4
    # A frame that is not a number on one worker stops the update on all.
    assert [result["refused"] for result in (first, second, alone)] == [True] * 3
    # What workers say adds up to what one alone says.
    for name, value in alone["metrics"].items():
        told = float(first["metrics"][name] + second["metrics"][name])
        assert told == pytest.approx(float(value), rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize(("num_episodes", "world_size"), [(48, 8), (5, 2), (8, 3), (3, 3), (1, 1)])
def test_workers_share_the_episodes_of_a_step_evenly(num_episodes: int, world_size: int) -> None:
    shares = [share(num_episodes, rank, world_size) for rank in range(world_size)]
    taken = [number for each in shares for number in range(num_episodes)[each]]
    assert taken == list(range(num_episodes))
    assert max(each.stop - each.start for each in shares) - min(each.stop - each.start for each in shares) <= 1


def test_more_workers_than_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 episodes per step are too few for 3 workers"):
        share(2, 0, 3)


def test_one_process_gives_back_what_it_gets() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    untouched = torch.nn.Parameter(torch.zeros(1))
    exchange = SingleProcess()
    assert exchange.sum_gradients([parameter, untouched]) == 5
    assert parameter.grad.tolist() == [3, 4]
    indices, gradients = exchange.gather_rows(torch.tensor([2]), torch.ones(1, 4), 1)
    assert indices.tolist() == [2]
    assert gradients.tolist() == [[1] * 4]
