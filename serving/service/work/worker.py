"""The worker loop: claim a job, renew its lease while it runs, settle it. Independent of Ray and HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from serving.service.config import QueueRules
from serving.service.errors import JobCancelled, NotFound
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.requests import Facts, JobKind
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.process import ChildDied, JobFailed

log = logging.getLogger(__name__)

RunJob = Callable[[JobOrder, Lease], Facts]
"""Runs a job, as `JobProcess.run`."""
_IDLE_POLLS = 4  # times the polling interval, when no job has waited for some time
_LOOK_S = 5.0  # an unchanged table is looked at this often: a lease ends without a change
_RENEW_S = 0.4  # also the time in which a cancelled job is noticed


@dataclass(frozen=True)
class Rest:
    """When a worker that need not always be ready holds no process."""

    rank: int
    """It works while at least this many jobs of its kind wait and run; 1 for the first worker."""
    idle_s: float
    """It rests when it has run no job for this long, seconds."""
    close: Callable[[], None]
    """Ends its process."""


class Worker:
    """Runs jobs of one kind, one at a time, in a background thread.

    Args:
        prepare: called before jobs are claimed; raises ChildDied when jobs cannot be run.
        run: runs the job.
        ended: called when a job needs its inputs no more; False for its result if that must go as well.
        rest: when it rests; None: never.
    """

    def __init__(
        self,
        jobs: JobQueue,
        kind: JobKind,
        prepare: Callable[[], None],
        run: RunJob,
        rules: QueueRules,
        *,
        name: str,
        ended: Callable[[Job, bool], None],
        rest: Rest | None = None,
    ) -> None:
        self._jobs, self._kind, self._prepare, self._run, self._rules = jobs, kind, prepare, run, rules
        self._name, self._ended, self._rest = name, ended, rest
        self._last_job = float("-inf")
        self._seen: object | None = None
        self._seen_at = 0.0
        self._stopping = threading.Event()
        self._lease: Lease | None = None
        self._failed_starts = 0
        self._thread = threading.Thread(target=self._loop, name=f"{kind}-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the current step; a running job goes back into the queue."""
        self._stopping.set()
        if (lease := self._lease) is not None:
            lease.stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def failed_starts(self) -> int:
        """How often in a row jobs could not be run."""
        return self._failed_starts

    def _loop(self) -> None:
        idle_s = self._rules.poll_s
        while not self._stopping.is_set():
            wait_s = idle_s
            try:
                if not self._nothing_new() and not self._rests():
                    self._prepare()
                    self._failed_starts = 0
                    if self.run_one():
                        self._last_job, self._seen, idle_s = time.monotonic(), None, self._rules.poll_s
                        continue
                idle_s = min(1.5 * idle_s, _IDLE_POLLS * self._rules.poll_s)
            except ChildDied as error:
                self._failed_starts += 1
                self._seen = None
                log.error("%s", error)
                wait_s = min(2.0**self._failed_starts, 30.0)
            except Exception:  # a locked or full table must not end the worker
                self._seen = None
                log.exception("the %s worker could not reach the jobs table", self._kind)
            self._stopping.wait(wait_s)

    def _nothing_new(self) -> bool:
        """Whether the jobs are as they were when this worker last looked, in vain."""
        stamp, now = self._jobs.stamp(), time.monotonic()
        if stamp is not None and stamp == self._seen and now < self._seen_at + _LOOK_S:
            return True
        self._seen, self._seen_at = stamp, now
        return False

    def _rests(self) -> bool:
        """Whether this worker is not needed now; one that has been idle for long gives back its memory."""
        if self._rest is None:
            return False
        counts = self._jobs.counts(self._kind)
        if counts.queued and counts.queued + counts.running >= self._rest.rank:
            return False
        if time.monotonic() < self._last_job + self._rest.idle_s:
            return False
        self._rest.close()
        return True

    def run_one(self) -> bool:
        """Claim and run one job. Return False when none is waiting."""
        job = self._jobs.claim(self._kind, self._name)
        if job is None:
            return False
        lease = self._lease = Lease()
        if self._stopping.is_set():
            lease.stop()
        over = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(job, lease, over), daemon=True)
        renewer.start()
        try:
            self._settle(job, lease)
        finally:
            over.set()
            renewer.join()
            self._lease = None
        return True

    def _settle(self, job: Job, lease: Lease) -> None:
        try:
            facts = self._run(JobOrder(job.id, job.avatar_id, job.request), lease)
        except JobCancelled:
            settled = self._jobs.release(job) if self._stopping.is_set() else False
        except JobFailed as error:
            if settled := self._jobs.fail(job, str(error), error.cause):
                self._ended(job, False)
        except ChildDied as error:
            log.error("job %s: %s", job.id, error, extra={"job": job.id})
            settled = self._jobs.crash(job, str(error))
            if settled and self._jobs.get(job.id).state == "failed":
                self._ended(job, False)
        else:
            if settled := self._jobs.finish(job, facts, lease.stage_seconds()):
                self._ended(job, True)
        if not settled:
            self._end_if_cancelled(job)

    def _renew(self, job: Job, lease: Lease, over: threading.Event) -> None:
        """Renew the lease until `over`; ask the job to stop when it no longer holds."""
        while not over.wait(min(self._rules.lease_s / 3, _RENEW_S)):
            try:
                held = self._jobs.renew(job, lease.done, lease.total, lease.stage)
            except Exception:  # tried again before the lease expires
                log.exception("the lease of job %s could not be renewed", job.id, extra={"job": job.id})
                continue
            if not held:
                lease.stop()
                return

    def _end_if_cancelled(self, job: Job) -> None:
        """Remove the files of a cancelled or deleted job, but not of one that another worker has claimed."""
        state = "cancelled"
        with suppress(NotFound):
            state = self._jobs.get(job.id).state
        if state == "cancelled":
            self._ended(job, False)
