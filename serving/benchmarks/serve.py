"""`sfumato bench serve`: what the service costs beyond the work that it does.

Measured on a service of its own, in a temporary folder:

    start      from the command to the first answer, and memory then
    rendering  seconds of a video by the service over those of `animate`'s code in this process, in interleaved rounds;
               and CPU seconds, which other work on the machine changes less
    reads      p50 and p99 of GET requests of several clients while a video is rendered
    idle       CPU of each process while nothing happens, and its memory
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from rich.table import Table

from pipelines import assets
from pipelines.benchmarks.rounds import BenchmarkResult, Cost, median
from pipelines.cli import CommandResult, console
from pipelines.machine import available_cpus, cpu_seconds, describe_machine, in_words
from pipelines.storage.scratch import ScratchFolder
from serving.client import Client
from serving.commands.serve import Options as ServeOptions
from serving.commands.serve import memory_bytes, running

_CLIENTS = 8
_MIB = 2**20


@dataclass(frozen=True)
class Options:
    """Start, overhead, latency and idle cost of the HTTP service."""

    model: str | None = None
    """Base model: a bundle's path or URL, or models:/NAME@ALIAS; default: the bundled one."""
    driver: str | None = None
    """Driver video; default: the catalogue's clip_single_face."""
    rounds: int = 3
    """Number of rounds; the median is reported."""
    requests: int = 400
    """Number of GET requests while a video is rendered."""
    idle_s: float = 20.0
    """How long the idle service is watched, seconds."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.requests < 1 or not self.idle_s > 0:
            raise ValueError("rounds and requests must be at least 1, idle-s above 0")


@dataclass(frozen=True)
class ProcessCost:
    """A process of the idle service."""

    name: str
    cpu_percent: float
    """Of one core."""
    mib: float
    """Memory, pages that processes share counted once in all."""


def run(options: Options) -> CommandResult:
    """Measure, print a table and return the figures.

    Raises:
        FileNotFoundError: the driver or the model does not exist.
        ValueError: the service does not start, or cannot render the driver.
    """
    started = time.monotonic()
    driver = assets.fetch("clip_single_face") if options.driver is None else Path(options.driver)
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        serve = ServeOptions(options.model, folder, port=_free_port(), num_steps=0, cpus_per_worker=available_cpus())
        before = time.monotonic()
        with running(serve) as url, Client(url) as client:
            start_s, start_mib = time.monotonic() - before, memory_bytes() / _MIB
            avatar = client.create_avatar([assets.fetch("mona_lisa")])
            client.wait(avatar.id, timeout_s=600.0)
            served, alone = _render(options, client, Path(folder) / "avatars" / avatar.avatar_id, driver)
            job = client.create_video(avatar.avatar_id, driver=driver)
            latencies = measure_reads(url, options.requests)
            client.wait(job.id, timeout_s=3600.0)
            time.sleep(5.0)  # until what has been made is stored and workers have gone idle
            idle = _watch(options.idle_s)
    service, animate = median(served), median(alone)
    ratio, cpu_ratio = service.wall_s / animate.wall_s, service.cpu_s / animate.cpu_s
    percentiles = {f"p{share}": percentile(latencies, share) for share in (50, 99)}
    console().print(_table(start_s, start_mib, (ratio, cpu_ratio), percentiles, idle))
    return BenchmarkResult(
        made=(),
        counts={"rounds": options.rounds, "requests": len(latencies), "processes": len(idle)},
        seconds=time.monotonic() - started,
        figures={
            "start_s": start_s,
            "start_mib": start_mib,
            "service": [asdict(cost) for cost in served],
            "animate": [asdict(cost) for cost in alone],
            "get_s": percentiles,
            "idle": [asdict(each) for each in idle],
            "machine": describe_machine("torch", "ray", "uvicorn", "sqlalchemy"),
        },
        ratios={"service over animate": ratio, "service over animate, CPU": cpu_ratio},
    )


def _render(options: Options, client: Client, avatar: Path, driver: Path) -> tuple[Sequence[Cost], Sequence[Cost]]:
    """Return the seconds of a video by the service and by `animate`'s code; the first round does not count."""
    import torch

    from serving.batch.avatar_maker import AvatarOptions, LoadedAvatar, ModelAvatarMaker, VideoFiles
    from serving.batch.workspace import Workspace
    from training.animation.render import RenderOptions
    from training.avatars.avatar import load_avatar
    from training.checkpoints.shipped import named_or_shipped

    torch.set_num_threads(available_cpus())
    worker = next(each for each in _cpu_seconds() if each.cmdline()[-2:] == ["serving.service.work.child", "video"])
    served, alone = [], []
    with ScratchFolder() as folder:
        model = named_or_shipped(options.model)
        maker = ModelAvatarMaker(AvatarOptions(model, device="cpu"), Workspace(folder, Path(folder)))
        loaded = LoadedAvatar(load_avatar(str(avatar)))
        for number in range(options.rounds + 1):
            cpu = _tree_seconds(worker)
            job = client.create_video(avatar.name, driver=driver)
            done = client.wait(job.id, timeout_s=3600.0)
            assert done.started_at is not None
            assert done.finished_at is not None
            seconds = (done.finished_at - done.started_at).total_seconds()
            served.append(Cost(_tree_seconds(worker) - cpu, seconds))
            files = VideoFiles(
                driver, f"round-{number}", Path(folder) / "video.mp4", None
            )  # a name each: nothing cached
            cpu, before = cpu_seconds(), time.perf_counter()
            maker.render(loaded, files, RenderOptions(), lambda _done, _total: None)
            alone.append(Cost(cpu_seconds() - cpu, time.perf_counter() - before))
    return served[1:], alone[1:]


def measure_reads(url: str, num_requests: int) -> Sequence[float]:
    """Return the seconds of GET requests that several clients send at once.

    Raises:
        httpx.HTTPStatusError: a request is refused.
    """

    def ask(count: int) -> Sequence[float]:
        found = []
        with httpx.Client(base_url=url, timeout=60.0) as client:
            for _ in range(count):
                before = time.perf_counter()
                client.get("/v1/jobs").raise_for_status()
                found.append(time.perf_counter() - before)
        return found

    with ThreadPoolExecutor(_CLIENTS) as pool:
        counts = [len(range(number, num_requests, _CLIENTS)) for number in range(_CLIENTS)]
        return [seconds for found in pool.map(ask, counts) for seconds in found]


def percentile(values: Sequence[float], share: int) -> float:
    """Return the smallest value that `share` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def _watch(seconds: float) -> Sequence[ProcessCost]:
    """Return what each process of the service costs while nothing happens, the most expensive first."""
    before = _cpu_seconds()
    time.sleep(seconds)
    found = []
    for process, used in _cpu_seconds().items():
        with contextlib.suppress(psutil.Error):
            mib = process.memory_full_info().pss / _MIB
            found.append(ProcessCost(_name(process), 100 * (used - before.get(process, used)) / seconds, mib))
    return sorted(found, key=lambda each: -each.cpu_percent)


def _cpu_seconds() -> Mapping[psutil.Process, float]:
    found = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process] = times.user + times.system
    return found


def _tree_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of its children, of those that have ended too."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += sum(each.cpu_times()[:4])
    return total


def _name(process: psutil.Process) -> str:
    words = [word for word in process.cmdline() if word.strip()]
    if "-m" in words:
        return " ".join(words[words.index("-m") + 1 :][:2])
    return Path(words[0].split(" ")[0]).name if words else process.name()


def _table(
    start_s: float,
    start_mib: float,
    ratios: tuple[float, float],
    reads: Mapping[str, float],
    idle: Sequence[ProcessCost],
) -> Table:
    machine = in_words(describe_machine("torch", "ray", "uvicorn", "sqlalchemy"))
    table = Table("", "CPU, % of a core", "memory, MiB", title=f"the idle service, on {machine}")
    for each in idle:
        table.add_row(each.name, f"{each.cpu_percent:.2f}", f"{each.mib:.0f}")
    whole = ProcessCost("all", sum(each.cpu_percent for each in idle), sum(each.mib for each in idle))
    table.add_row(whole.name, f"{whole.cpu_percent:.2f}", f"{whole.mib:.0f}", style="bold")
    table.caption = (
        f"ready after {start_s:.1f} s with {start_mib:.0f} MiB; rendering {ratios[0]:.3f} times as long as animate,"
        f" {ratios[1]:.3f} times its CPU;"
        f" GET p50 {1000 * reads['p50']:.0f} ms, p99 {1000 * reads['p99']:.0f} ms while rendering"
    )
    return table


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
