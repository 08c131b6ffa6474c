"""Workers as Ray actors, on this machine or on a cluster. The only module of serving.batch that imports ray."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from pipelines import storage
from pipelines.cli import console
from pipelines.machine import available_cpus
from pipelines.provenance.signing_key import SigningFiles
from serving.batch.items import Outcome, Task
from serving.batch.pool import Finished, RayOptions
from serving.batch.worker import MakeMaker, Worker
from serving.batch.workspace import Workspace

_POLL_SECONDS = 1.0
_SECONDS_TO_CLOSE = 5.0
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_FALL = 0.5
_SECONDS_BEFORE_TELLING = 30.0
_MAX_BARS = 8
_MAX_FAILED_STARTS = 3  # of one worker in a row


@dataclass(frozen=True)
class WorkerRecipe:
    """How an actor makes its `Worker`."""

    make_maker: MakeMaker
    out: str
    """Folder of results: an absolute path or a URL."""
    side_by_side: bool
    signing: SigningFiles
    """What signs the results: read by the actor, on its machine."""
    scratch: str
    """Folder for copies of remote files and for tracks; on a machine that does not have it, a temporary one."""


@dataclass(frozen=True)
class _Place:
    """Where an actor runs."""

    node: str
    host: str
    num_cores: int


class RemoteWorker:
    """The actor: a `Worker` in a process of its own."""

    def __init__(self, recipe: WorkerRecipe) -> None:
        self._recipe = recipe
        self._worker: Worker | None = None

    def open(self) -> _Place:
        """Make the worker. Raises what its maker raises: an error of the constructor would lose its type on the way."""
        import ray

        recipe = self._recipe
        shared = Path(recipe.scratch) if Path(recipe.scratch).is_dir() else None
        self._scratch = storage.ScratchFolder(shared)
        workspace = Workspace(recipe.out, Path(self._scratch.name), shared)
        self._worker = Worker(recipe.make_maker, workspace, side_by_side=recipe.side_by_side, signing=recipe.signing)
        node = ray.get_runtime_context().get_node_id()
        return _Place(node, socket.gethostname(), available_cpus())

    def perform(self, task: Task, num_threads: int) -> Outcome:
        """Carry out a task with a number of threads for torch and OpenCV each."""
        import cv2
        import torch

        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
            cv2.setNumThreads(num_threads)
        assert self._worker is not None
        return self._worker.perform(task, lambda _done, _total: None)

    def close(self) -> None:
        """Remove the copies of remote files."""
        self._scratch.cleanup()


@dataclass
class _Slot:
    """A worker's place in the pool: its present actor and what that does."""

    actor: Any
    call: Any
    """Reference to the result of the running call; None: idle."""
    task: Task | None = None
    bar: TaskID | None = None
    place: _Place | None = None
    """None: the actor is starting, or waits for resources."""
    failed_starts: int = 0


class RayPool:
    """A pool of actors. A dead actor is replaced. Actors that wait for resources take part when they get them."""

    def __init__(self, options: RayOptions, recipe: WorkerRecipe, progress: Progress) -> None:
        import ray

        self._ray, self._options, self._recipe, self._progress = ray, options, recipe, progress
        self._actors = ray.remote(RemoteWorker)
        self._slots = [self._new_slot() for _ in range(options.num_workers)]
        self._started_at: float | None = time.monotonic()
        """None once a worker has started, or once the user has been told that none has."""

    def _new_slot(self, failed_starts: int = 0) -> _Slot:
        options = self._options
        actor = self._actors.options(
            num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker, max_restarts=0
        ).remote(self._recipe)
        return _Slot(actor, actor.open.remote(), failed_starts=failed_starts)

    @property
    def num_running(self) -> int:
        return sum(slot.task is not None for slot in self._slots)

    def idle(self) -> Sequence[int]:
        return [number for number, slot in enumerate(self._slots) if slot.call is None]

    def name(self, worker: int) -> str:
        place = self._slots[worker].place
        return f"{worker}@{place.host if place else '?'}"

    def start(self, worker: int, task: Task) -> None:
        slot = self._slots[worker]
        assert slot.place is not None
        here = sum(other.place is not None and other.place.node == slot.place.node for other in self._slots)
        num_threads = max(1, slot.place.num_cores // here)
        slot.call, slot.task = slot.actor.perform.remote(task, num_threads), task
        if len(self._slots) <= _MAX_BARS:
            slot.bar = self._progress.add_task(task.name, total=None)

    def wait(self) -> Sequence[Finished]:
        calls = {slot.call: number for number, slot in enumerate(self._slots) if slot.call is not None}
        ended, _ = self._ray.wait(list(calls), timeout=_POLL_SECONDS)
        finished = [done for call in ended if (done := self._end(calls[call])) is not None]
        self._tell_when_none_starts()
        return finished

    def _end(self, worker: int) -> Finished | None:
        """Take the result of a worker's call; replace its actor if that is dead."""
        slot = self._slots[worker]
        task = slot.task
        if slot.bar is not None:
            self._progress.remove_task(slot.bar)
        try:
            result = self._ray.get(slot.call)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._ray.exceptions.RayError as error:
            lost_machine = slot.place is not None and self._is_gone(slot.place.node)
            self._replace(worker, error)
            return None if task is None else Finished(worker, task, None, lost_machine)
        slot.call = slot.task = slot.bar = None
        if task is not None:
            return Finished(worker, task, result)
        slot.place, slot.failed_starts, self._started_at = result, 0, None
        return None

    def _is_gone(self, node: str) -> bool:
        time.sleep(_SECONDS_TO_FALL)  # a machine's processes do not all end in the same instant
        return not any(known["NodeID"] == node and is_up(known) for known in self._ray.nodes())

    def _replace(self, worker: int, error: Exception) -> None:
        slot = self._slots[worker]
        failed_starts = slot.failed_starts + 1 if slot.place is None else 0
        if failed_starts == _MAX_FAILED_STARTS:
            raise OSError(f"a worker died {failed_starts} times while it started: {str(error).strip().splitlines()[0]}")
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(slot.actor)  # it may be unreachable rather than dead
        self._slots[worker] = self._new_slot(failed_starts)

    def _tell_when_none_starts(self) -> None:
        if self._started_at is None or time.monotonic() - self._started_at < _SECONDS_BEFORE_TELLING:
            return
        self._started_at = None
        options, free = self._options, self._ray.available_resources()
        console().print(
            f"waiting for a worker to start: each needs {options.cpus_per_worker:g} CPUs and"
            f" {options.gpus_per_worker:g} GPUs; {free.get('CPU', 0):g} and {free.get('GPU', 0):g} are free"
        )

    def close(self, *, wait: bool) -> None:
        """End all actors: at once, or after they have removed their copies of remote files."""
        if wait:
            closing = [slot.actor.close.remote() for slot in self._slots if slot.place is not None]
            if closing:
                self._ray.wait(closing, num_returns=len(closing), timeout=_SECONDS_TO_CLOSE)
        for slot in self._slots:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(slot.actor)


def is_up(node: Mapping[str, Any]) -> bool:
    """Return whether a machine of the cluster answers. Ray itself takes a lost one for alive for a quarter of a minute.

    Args:
        node: what `ray.nodes` says of it.
    """
    if not node["Alive"]:
        return False
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), _SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True


@contextmanager
def open_ray_pool(options: RayOptions, recipe: WorkerRecipe, progress: Progress) -> Iterator[RayPool]:
    """Join or start Ray and yield a pool of actors; end them, and the Ray that was started, with the block.

    Raises:
        OSError: there is no cluster at the address, or it refuses this process's token.
        ValueError: this machine has too few GPUs.
    """
    # Ray reads this variable when it is imported; otherwise `uv run` would make an environment for every worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    is_own = not ray.is_initialized()
    with _keep_sigterm():
        if is_own:
            _start_ray(options)
        try:
            pool = RayPool(options, recipe, progress)
            done = False
            try:
                yield pool
                done = True
            finally:
                pool.close(wait=done)
        finally:
            if is_own:
                ray.shutdown()


@contextmanager
def _keep_sigterm() -> Iterator[None]:
    """Put back the handler of SIGTERM after the block, in which SIGTERM acts like Ctrl-C.

    With the default handler, some of Ray's processes would outlive this one.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start_ray(options: RayOptions) -> None:
    """Join a cluster, or start a local one on loopback."""
    import ray

    from training.local_ray import start_local_ray
    from training.ray_cluster import join_cluster

    if options.address is not None:
        join_cluster(options.address)
    else:
        start_local_ray(max(available_cpus(), math.ceil(options.num_workers * options.cpus_per_worker)))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # after Ray has installed its own handler
    needed, found = options.num_workers * options.gpus_per_worker, ray.cluster_resources().get("GPU", 0)
    if options.address is None and needed > found:
        ray.shutdown()
        each = f"--gpus-per-worker {options.gpus_per_worker:g} for {options.num_workers}"
        raise ValueError(f"{each} of the --workers needs {needed:g} GPUs, this machine has {found:g}")
