"""How many workers a queue needs. Serve's own autoscaler counts calls, and workers receive none."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.service.state.job_queue import JobQueue, QueueCounts

_ASK_S = 1.0


def wanted_workers(counts: QueueCounts, current: int) -> int:
    """Return the number of workers for a queue: one for each job that waits or runs.

    While a job runs, none is taken away: Serve chooses which replica goes, and might choose the busy one.
    """
    needed = counts.running + counts.queued
    return max(needed, current) if counts.running else needed


class QueuePolicy:
    """A Serve autoscaling policy: asks the jobs table, in a thread, so that the controller never waits for it."""

    def __init__(self, kind: str, database: str) -> None:
        self._kind, self._database = kind, database
        self._counts: QueueCounts | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas, and no state. Serve keeps it within the deployment's bounds."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        current = int(context.target_num_replicas)
        return (current if self._counts is None else wanted_workers(self._counts, current)), {}

    def _watch(self) -> None:
        from serving.service.config import QueueRules
        from serving.service.state.database import Database
        from serving.service.state.job_queue import JobQueue

        jobs: JobQueue | None = None
        while True:
            try:
                jobs = jobs or JobQueue(Database(self._database), QueueRules())
                self._counts = jobs.counts(self._kind)  # type: ignore[arg-type]
            except Exception:  # asked again; the number of workers stays
                logging.getLogger(__name__).exception("the %s queue cannot be counted", self._kind)
                self._counts = None
            time.sleep(_ASK_S)
