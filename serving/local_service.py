"""Run the service on this machine alone, without Ray: front ends are child processes, workers are threads of this
process, with child processes that run their jobs. What dies is started again.

On a cluster `deploy` runs the same front ends and workers as one application of Ray Serve.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from pipelines import cli
from serving.service.config import ServiceConfig, config_json
from serving.service.state.requests import JobKind
from serving.service.work.replica import Replica

log = logging.getLogger(__name__)

_IMPORT_ROOT = Path(__file__).resolve().parents[1]  # the folder that holds the package `serving`
_WATCH_S = 0.5
_MAX_PAUSE_S = 30.0
_WORKER_BYTES = 1200 * 2**20  # torch, the detector, a model and an avatar
_STILLS_BYTES = 500 * 2**20  # torch, a model and four avatars


@contextlib.contextmanager
def local_service(config: ServiceConfig, check: Callable[[], None]) -> Iterator[None]:
    """Run the service while the block lasts; it is ready when front ends listen and workers take jobs.

    Args:
        check: further checks, made while front ends start; it raises what `local_service` then raises.

    Raises:
        ValueError: this machine has not enough of something, or a front end does not start; the message says why.
        KeyboardInterrupt: SIGTERM or SIGINT; everything that was started is stopped.
    """
    check_memory(config)
    environments = [device_variables(config, slot) for slot in range(config.num_finetuners + config.num_renderers)]
    cli.console().print("starting ...")
    with contextlib.ExitStack() as running:
        running.enter_context(_interrupted_by_sigterm())
        front_ends = [FrontEndProcess(config) for _ in range(config.num_front_ends)]
        running.callback(_close_all, front_ends)
        check()
        for front_end in front_ends:
            front_end.wait_until_ready()
        workers = [
            Replica(config, kind, rank=rank, environment=environment)
            for (kind, rank), environment in zip(_places(config), environments, strict=True)
        ]
        stopping = threading.Event()
        watching = threading.Thread(target=_watch, args=(front_ends, stopping), name="watch")
        watching.start()
        running.callback(watching.join)
        running.callback(_close_all, workers)  # while front ends answer their last requests
        running.callback(stopping.set)
        yield


def check_memory(config: ServiceConfig) -> None:
    """Raise ValueError when this machine cannot run all workers: said before anything starts."""
    workers, drawing = config.num_finetuners + config.num_renderers, config.num_stills * config.num_front_ends
    there, needed = psutil.virtual_memory().total, workers * _WORKER_BYTES + drawing * _STILLS_BYTES
    if needed > there:
        what = f"{workers} workers" + (f" and {drawing} for single pictures" if drawing else "")
        raise ValueError(
            f"{what} need about {needed / 2**30:.0f} GiB of memory, this machine has {there / 2**30:.0f}:"
            " give fewer --num-renderers, --num-finetuners or --num-stills"
        )


def device_variables(config: ServiceConfig, slot: int) -> dict[str, str]:
    """Return the variables that show a worker its GPUs alone: none, whole ones, or one that several workers share.

    Args:
        slot: number of the worker among all of this machine, from 0.

    Raises:
        ValueError: there are too few GPUs.
    """
    share = config.num_gpus
    if not share:
        return {"CUDA_VISIBLE_DEVICES": ""}
    there = _visible_gpus()
    if share < 1:
        sharing = int(1 / share + 1e-6)
        wanted = [slot // sharing]
    else:
        wanted = [*range(slot * round(share), (slot + 1) * round(share))]
    if wanted[-1] >= len(there):
        workers = config.num_finetuners + config.num_renderers
        raise ValueError(
            f"{workers} workers need {share * workers:g} GPUs, there are {len(there)}: give a smaller --num-gpus or"
            " fewer workers"
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(there[index] for index in wanted)}


def _visible_gpus() -> Sequence[str]:
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _places(config: ServiceConfig) -> Iterator[tuple[JobKind, int]]:
    """Yield the kind and the rank (see `Replica`) of each worker."""
    kinds: tuple[tuple[JobKind, int], ...] = (("avatar", config.num_finetuners), ("video", config.num_renderers))
    for kind, number in kinds:
        always = number if config.min_workers is None else config.min_workers
        yield from ((kind, 0 if rank <= always else rank) for rank in range(1, number + 1))


class FrontEndProcess:
    """A front end as a child process."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config, self._drain_s = config, config.drain_s
        self._pauses = itertools.chain((0.0, 1.0, 2.0, 5.0, 10.0), itertools.repeat(_MAX_PAUSE_S))
        self._start()

    def _start(self) -> None:
        path = os.pathsep.join([str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.service.front_end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        )
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which is told below
            self._process.stdin.write(config_json(self._config) + "\n")
            self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Wait until it listens. Raises ValueError, with its reason, when it does not start."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line.strip() else {"failed": "see its messages above"}
        if "ready" not in answer:
            raise ValueError(f"the front end does not start: {answer['failed']}")

    def keep_alive(self) -> None:
        """Start it again if it has ended, after a pause that grows."""
        if (code := self._process.poll()) is None:
            return
        pause = next(self._pauses)
        log.error("a front end has ended (%s); another starts%s", _how(code), f" in {pause:g} s" if pause else "")
        time.sleep(pause)
        self._release()
        self._start()

    def close(self) -> None:
        """Let it answer the requests that are there, then end it."""
        self._process.terminate()
        try:
            self._process.wait(self._drain_s + 3.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._release()

    def _release(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _watch(front_ends: Sequence[FrontEndProcess], stopping: threading.Event) -> None:
    """Keep front ends alive, then close them: those that this thread has started would end with it."""
    while not stopping.wait(_WATCH_S):
        for front_end in front_ends:
            front_end.keep_alive()
    _close_all(front_ends)


def _close_all(parts: Sequence[FrontEndProcess | Replica]) -> None:
    """Close all at the same time, so that the slowest alone counts."""
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        list(pool.map(lambda part: part.close(), parts))


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM while the block lasts."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
