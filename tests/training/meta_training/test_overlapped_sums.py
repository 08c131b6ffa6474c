"""Sums of gradients that start while the backward pass runs, with two gloo processes."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from training.meta_training import overlapped_sums
from training.meta_training.collectives import ProcessGroup
from training.meta_training.overlapped_sums import OverlappedSums, _divided

_LAYERS, _WIDTH = 6, 8


def network() -> nn.Sequential:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, _WIDTH, 3).to(memory_format=torch.channels_last)
    linears = [nn.Linear(_WIDTH, _WIDTH) for _ in range(_LAYERS)]
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *linears)


def loss_of(net: nn.Module, rank: int, part: int) -> torch.Tensor:
    frames = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(10 * rank + part))
    loss: torch.Tensor = net(frames).square().sum()
    return loss


def summed_flat(net: nn.Module, rank: int, parts: Sequence[int]) -> list[torch.Tensor]:
    """The sums by one collective operation after the backward passes."""
    for part in parts:
        loss_of(net, rank, part).backward()
    gradients = [each.grad for each in net.parameters() if each.grad is not None]
    flat = torch.cat([each.contiguous().flatten() for each in gradients])
    dist.all_reduce(flat)
    sums = flat.split([each.numel() for each in gradients])
    return [part.view(each.shape) for part, each in zip(sums, gradients, strict=True)]


def work(rank: int, port: int, folder: str) -> None:
    """One of two workers: what happened in which order, and whether sums are those of one operation."""
    try:
        torch.set_num_threads(1)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=2)
        torch.save([observed(rank, parts) for parts in ([0], [1, 2, 3], [4])], Path(folder) / f"{rank}.pt")
        dist.destroy_process_group()
    except Exception:
        (Path(folder) / f"{rank}.txt").write_text(traceback.format_exc())
        raise


def observed(rank: int, parts: Sequence[int]) -> dict[str, Any]:
    expected = summed_flat(network(), rank, parts)
    net, exchange, events = network(), ProcessGroup(), list[str]()
    idle = nn.Parameter(torch.zeros(3))
    parameters = [*net.parameters(), idle]
    for number, parameter in enumerate(net.parameters()):
        parameter.register_post_accumulate_grad_hook(lambda _, number=number: events.append(f"gradient {number}"))
    all_reduce = dist.all_reduce
    sent = []

    def watched(tensor: torch.Tensor, **options: Any) -> Any:
        events.append("sum")
        sent.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, **options)

    exchange._sums[tuple(map(id, parameters))] = OverlappedSums(parameters, bucket_bytes=4 * 100)
    overlapped_sums.dist.all_reduce = watched  # this process ends soon
    try:
        for _ in range(2):  # the first step finds the order
            events.clear()
            sent.clear()
            net.zero_grad()
            for part in parts:
                with exchange.overlap(parameters, part == parts[-1]):
                    loss_of(net, rank, part).backward()
            norm = exchange.sum_gradients(parameters)
    finally:
        overlapped_sums.dist.all_reduce = all_reduce
    gradients = [parameter.grad for parameter in net.parameters()]
    assert idle.grad is None
    return {
        "events": events,
        "sent": sent,
        "equal": all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True) if a is not None),
        "strides": [a.grad.stride() == a.stride() for a in net.parameters() if a.grad is not None],
        "norm": float(norm),
        "expected": float(torch.cat([each.flatten() for each in expected]).double().norm()),
    }


@pytest.mark.slow
def test_sums_start_before_the_backward_pass_ends_and_are_those_of_one_operation(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    start: Callable[..., Any] = multiprocessing.get_context("fork").Process
    workers = [start(target=work, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0], [path.read_text() for path in tmp_path.glob("*.txt")]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for one, other in zip(first, second, strict=True):
        assert one["equal"]  # to the bit: a sum of two does not depend on its order
        assert other["equal"]
        assert all(one["strides"])
        assert one["norm"] == other["norm"] == pytest.approx(one["expected"], rel=1e-6)
        # Six linear layers of 8 x 8 + 8 numbers and a convolution of 8 x 3 x 3 x 3 + 8, of 4 bytes.
        assert sum(one["sent"]) == 4 * (6 * 72 + 224)
        assert one["sent"] == other["sent"]
        assert len(one["sent"]) > 3
        events = one["events"]
        assert events.index("sum") < max(at for at, event in enumerate(events) if event == "gradient 0")
    # Of three parts, the sums start in the last.
    events = first[1]["events"]
    assert events[: events.index("sum")].count("gradient 2") == 2
    assert events.count("gradient 0") == 3


def test_buckets_are_filled_in_order() -> None:
    sizes = [10, 50, 60, 300, 5]
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    assert [[len(each) for each in bucket] for bucket in _divided(parameters, 4 * 100)] == [[10, 50], [60], [300], [5]]
