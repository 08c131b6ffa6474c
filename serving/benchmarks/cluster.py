"""`sfumato bench cluster WORK`: what a second machine brings to meta-training or to batch animation.

Nodes of a Ray cluster on this machine, each held to one core, stand for machines. The real commands run on one node,
then on two; they run on the head's core, as on the machine of a user. Workers have one thread.

    meta-train  images a second of one worker and of two, each with the same number of episodes a step; medians of the
                logs after the first. Beside them the CPU seconds of a step, which other work changes less
    animate     seconds from the start of the first task's video to the end of the last one, and of the whole command
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
import pyarrow.dataset
import tyro
from PIL import Image, ImageOps
from rich.table import Table

from pipelines import assets
from pipelines.benchmarks.rounds import BenchmarkResult
from pipelines.cli import CommandResult, console
from pipelines.machine import available_cpus, describe_machine, in_words
from pipelines.media.ffmpeg_process import ffmpeg_executable
from serving.benchmarks.ray_nodes import RayNode, cluster_environment, free_port, running
from training.benchmarks.clips import make_dataset

_PORTRAITS = ("mona_lisa", "astronaut")  # and their mirror images
_DRIVERS = ("clip_langer", "clip_single_face", "clip_carphone")
_LOG_EVERY = 10


@dataclass(frozen=True)
class Options:
    """Meta-training or batch animation on one node of one core and on two."""

    work: tyro.conf.Positional[Literal["meta-train", "animate"]]
    """What the nodes do."""
    preset: Literal["base", "small", "demo"] = "base"
    """Of meta-train: the configuration."""
    data: str | None = None
    """Of meta-train: the data set; default: one made of three clips of the catalogue."""
    episodes: int = 4
    """Of meta-train: episodes of each worker in a step."""
    steps: int = 40
    """Of meta-train: number of steps; the first ten do not count."""
    frames: int = 120
    """Of animate: frames of each of the twelve videos."""
    max_size: int = 384
    """Of animate: longer side of the videos, pixels."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.frames < 1 or self.max_size < 1:
            raise ValueError("episodes, frames and max-size must be at least 1")
        if self.steps < 3 * _LOG_EVERY:
            raise ValueError(f"--steps must be at least {3 * _LOG_EVERY}, got {self.steps}")


def run(options: Options) -> CommandResult:
    """Measure on one node, then on two, and return the figures.

    Raises:
        ValueError: this machine has fewer than two cores, or a command failed; the message is the command's.
        FileNotFoundError: the data set does not exist.
    """
    started = time.monotonic()
    if not hasattr(os, "sched_setaffinity") or available_cpus() < 2:
        raise ValueError("two nodes need two cores, and a system that holds processes to one, such as Linux")
    if options.data is not None and not Path(options.data).exists():
        raise FileNotFoundError(f"{options.data} does not exist")
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        measure = _trainings(options, Path(folder)) if options.work == "meta-train" else _batches(options, Path(folder))
        one, two = dict(measure(1)), dict(measure(2))
    ratios = _ratios(options.work, one, two)
    console().print(_table(options.work, one, two))
    return BenchmarkResult(
        made=(),
        counts={"nodes": 2},
        seconds=time.monotonic() - started,
        notes=tuple(f"{name}: {ratio:.3f}" for name, ratio in ratios.items()),
        figures={"one": one, "two": two, "machine": describe_machine("torch", "ray")},
        ratios=ratios,
    )


def _ratios(work: str, one: Mapping[str, float], two: Mapping[str, float]) -> dict[str, float]:
    if work == "meta-train":
        name = "images a second"
        return {"two workers over twice one": two[name] / (2 * one[name])}
    names = {"from the first start to the last end": "seconds", "the whole command": "seconds of the command"}
    return {f"one node over two, {words}": one[name] / two[name] for words, name in names.items()}


def _trainings(options: Options, folder: Path) -> Callable[[int], Mapping[str, float]]:
    """Return a function that trains on a number of nodes and returns what a step costs."""
    root = options.data or make_dataset(folder)[0]

    def measure(num_nodes: int) -> Mapping[str, float]:
        log = folder / f"mlflow-{num_nodes}.db"
        arguments = [
            "meta-train",
            options.preset,
            "--data",
            str(Path(root).absolute()),
            "-o",
            str(folder / f"run-{num_nodes}"),
        ]
        arguments += ["--workers", str(num_nodes), "--episodes-per-step", str(options.episodes * num_nodes)]
        arguments += ["--num-steps", str(options.steps), "--mlflow", f"sqlite:///{log}"]
        samples: list[tuple[int, float, float]] = []

        def watch(nodes: Sequence[RayNode]) -> None:
            """Note the CPU seconds of workers and of all processes at each new log."""
            step = max((step for step, _ in _logged(log)), default=0)
            if step and (not samples or step > samples[-1][0]):
                workers = sum(_cpu_seconds(node.workers("ray::RayTrainWorker")) for node in nodes)
                samples.append((step, workers, sum(_cpu_seconds(node.processes()) for node in nodes)))

        seconds = _run(arguments, num_nodes, watch)
        rates = [rate for step, rate in _logged(log) if step > _LOG_EVERY]
        if len(samples) < 3:
            raise ValueError("the training was too short to be measured: give more --steps")
        # Not the last sample: workers may have ended by then.
        (first, workers, everything), (last, workers_after, everything_after) = samples[0], samples[-2]
        steps = last - first
        return {
            "images a second": statistics.median(rates),
            "CPU seconds of a step, workers": (workers_after - workers) / steps,
            "CPU seconds of a step, the rest of Ray": (everything_after - everything - workers_after + workers) / steps,
            "seconds of the command": seconds,
        }

    return measure


def _logged(log: Path) -> list[tuple[int, float]]:
    """Return the images a second of every log of a run, by step; none while there are no tables yet."""
    if not log.exists():
        return []
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(log)) as database:
        query = "select step, value from metrics where key = 'images_per_second' order by step"
        return [(int(step), float(value)) for step, value in database.execute(query)]
    return []


def _batches(options: Options, folder: Path) -> Callable[[int], Mapping[str, float]]:
    """Return a function that renders all videos on a number of nodes and returns the seconds."""
    drivers = [_cut(assets.fetch(name), folder / f"{name}.mp4", options.frames) for name in _DRIVERS]
    inputs = ["-s", str(_portraits(folder / "portraits"))]
    inputs += [word for driver in drivers for word in ("-d", str(driver))]

    def measure(num_nodes: int) -> Mapping[str, float]:
        out = folder / f"out-{num_nodes}"
        arguments = ["animate", *inputs, "-o", str(out), "--workers", str(num_nodes)]
        arguments += ["--max-size", str(options.max_size), "--no-side-by-side", "--no-mosaic"]
        used = [0.0]

        def watch(nodes: Sequence[RayNode]) -> None:
            used.append(sum(_cpu_seconds(node.workers("ray::RemoteWorker")) for node in nodes))

        seconds = _run(arguments, num_nodes, watch)
        columns = ["item", "status", "reason", "seconds", "started_at", "finished_at"]
        rows = pyarrow.dataset.dataset(out / "report").to_table(columns).to_pylist()
        if failed := [f"{row['item']}: {row['reason']}" for row in rows if row["status"] != "done"]:
            raise ValueError(failed[0])
        first, last = min(row["started_at"] for row in rows), max(row["finished_at"] for row in rows)
        return {
            "videos": float(len(rows)),
            "seconds": (last - first).total_seconds(),
            "seconds of the videos, added": sum(row["seconds"] for row in rows),
            "CPU seconds of the workers": max(used),
            "seconds of the command": seconds,
        }

    return measure


def _portraits(folder: Path) -> Path:
    """Write four portraits."""
    folder.mkdir()
    for name in _PORTRAITS:
        with Image.open(assets.fetch(name)) as picture:
            plain = picture.convert("RGB")
        plain.save(folder / f"{name}.png")
        ImageOps.mirror(plain).save(folder / f"{name}-mirrored.png")
    return folder


def _cut(film: Path, path: Path, frames: int) -> Path:
    """Write the first frames of a film, without sound."""
    command = [
        ffmpeg_executable(),
        "-nostdin",
        "-v",
        "error",
        "-i",
        str(film),
        "-frames:v",
        str(frames),
        "-an",
        str(path),
    ]
    subprocess.run(command, check=True)
    return path


def _run(
    arguments: Sequence[str], num_nodes: int, watch: Callable[[Sequence[RayNode]], None] = lambda _nodes: None
) -> float:
    """Run `sfumato` on the head's core with a cluster of its own, and return its seconds.

    Args:
        watch: called about twice a second with the nodes.

    Raises:
        ValueError: the command failed.
    """
    port = free_port()
    address, environment = f"127.0.0.1:{port}", cluster_environment(secrets.token_hex(32))
    head, *cores = sorted(os.sched_getaffinity(0))
    nodes = [RayNode(("--head", f"--port={port}", "--include-dashboard=false"), head, environment)]
    nodes += [RayNode((f"--address={address}",), core, environment) for core in cores[: num_nodes - 1]]
    command = [sys.executable, "-m", "sfumato", *arguments, "--ray-address", address]
    with running(nodes, address), tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=said, stderr=said, preexec_fn=partial(os.sched_setaffinity, 0, {head})
        )
        try:
            while process.poll() is None:
                watch(nodes)
                time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
        seconds = time.monotonic() - started
        if process.returncode:
            said.seek(0)
            raise ValueError(f"sfumato {arguments[0]} failed: {(said.read().strip().splitlines() or ['?'])[-1]}")
        return seconds


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    used = 0.0
    for each in processes:
        with suppress(psutil.Error):
            times = each.cpu_times()
            used += times.user + times.system
    return used


def _table(work: str, one: Mapping[str, float], two: Mapping[str, float]) -> Table:
    title = f"{work} on nodes of one core, on {in_words(describe_machine('torch', 'ray'))}"
    table = Table("", title=title, title_justify="left")
    for column in ("one node", "two nodes"):
        table.add_column(column, justify="right")
    for name, value in one.items():
        table.add_row(name, f"{value:.2f}", f"{two[name]:.2f}")
    return table
