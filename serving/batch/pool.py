"""Workers as the run sees them: it starts tasks on idle ones and waits for results. One worker is this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.progress import Progress

from serving.batch.driver_tracks import OnStep
from serving.batch.items import Outcome, Task
from serving.batch.worker import Worker


@dataclass(frozen=True)
class RayOptions:
    """Number and place of the workers, and what each reserves. Ray counts with these numbers; it enforces none."""

    num_workers: int
    address: str | None = None
    """Address of a running cluster; None: start Ray on this machine."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    """With a fraction, workers share a GPU."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ValueError(f"--workers must be at least 1, got {self.num_workers}")
        for flag, value in (("--cpus-per-worker", self.cpus_per_worker), ("--gpus-per-worker", self.gpus_per_worker)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{flag} must not be negative, got {value:g}")
            if value > 1 and value != int(value):
                raise ValueError(f"{flag} above 1 must be a whole number, got {value:g}")


@dataclass(frozen=True)
class Finished:
    """A task that a worker has ended, or that has ended the worker."""

    worker: int
    task: Task
    outcome: Outcome | None
    """None: the worker died."""
    lost_machine: bool = False
    """Whether the worker died with its machine, which is not the task's fault."""


class Pool(Protocol):
    """Workers, numbered from 0. Each carries out one task at a time, so that a death has one cause."""

    @property
    def num_running(self) -> int:
        """Number of tasks that are running."""
        ...

    def idle(self) -> Sequence[int]:
        """Return the workers that can take a task."""
        ...

    def name(self, worker: int, /) -> str:
        """Return a worker's name, for the report."""
        ...

    def start(self, worker: int, /, task: Task) -> None:
        """Give a task to an idle worker."""
        ...

    def wait(self) -> Sequence[Finished]:
        """Return the tasks that have ended; after about a second without one, none.

        Raises:
            ValueError, OSError, ImportError: no worker can work here, such as without the device that is asked for.
        """
        ...


OpenPool = Callable[[int], AbstractContextManager[Pool]]
"""Opens a pool for a number of tasks. A run without tasks opens none."""


class ThisProcess:
    """A pool of one worker in this process, with a progress bar for the task that is running."""

    def __init__(self, worker: Worker, progress: Progress, on_step: Callable[[], None]) -> None:
        """Use `worker`; `on_step` is called with every frame or fine-tuning step."""
        self._worker, self._progress, self._on_step = worker, progress, on_step
        self._task: Task | None = None

    @property
    def num_running(self) -> int:
        return int(self._task is not None)

    def idle(self) -> Sequence[int]:
        return () if self.num_running else (0,)

    def name(self, _worker: int) -> str:
        return "this process"

    def start(self, _worker: int, task: Task) -> None:
        self._task = task

    def wait(self) -> Sequence[Finished]:
        task, self._task = self._task, None
        if task is None:
            return ()
        with self._bar(task.name) as on_step:
            return (Finished(0, task, self._worker.perform(task, on_step)),)

    @contextmanager
    def _bar(self, title: str) -> Iterator[OnStep]:
        bar = self._progress.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            self._progress.update(bar, completed=done, total=total)
            self._on_step()

        try:
            yield update
        finally:
            self._progress.remove_task(bar)
