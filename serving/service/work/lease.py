"""What a running job needs of its surroundings: to report progress, and to learn that it should stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.service.errors import JobCancelled
from serving.service.state.requests import Facts, WorkRequest


@dataclass(frozen=True)
class JobOrder:
    """A job as its work sees it."""

    id: str
    avatar_id: str
    request: WorkRequest


class Lease:
    """Progress of a running job, and whether it should stop. Safe for threads."""

    def __init__(self, report: Callable[[int, int, str], None] | None = None) -> None:
        """`report` is called with (done, total, stage) of each progress."""
        self._report = report
        self._stop = threading.Event()
        self.done, self.total, self.stage = 0, 0, ""
        self._stages: dict[str, float] = {}
        self._stage_since = time.monotonic()

    def progress(self, done: int, total: int, stage: str = "") -> None:
        """Store the progress. Raises JobCancelled when the job should stop."""
        if self._stop.is_set():
            raise JobCancelled
        if stage != self.stage:
            self._end_stage()
        self.done, self.total, self.stage = done, total, stage
        if self._report is not None:
            self._report(done, total, stage)

    def stage_seconds(self) -> Mapping[str, float]:
        """Return the seconds of each stage so far."""
        self._end_stage()
        return dict(self._stages)

    def _end_stage(self) -> None:
        now = time.monotonic()
        if self.stage:
            self._stages[self.stage] = self._stages.get(self.stage, 0.0) + now - self._stage_since
        self._stage_since = now

    def stop(self) -> None:
        """Ask the job to stop: it was cancelled or given to another worker, or the service stops."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()


Work = Callable[[JobOrder, Lease], Facts]
"""Runs a job and returns its facts. Its ValueError is about the input and is told to the client; JobCancelled means
that it stopped because of its lease; any other exception is logged."""
