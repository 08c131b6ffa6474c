"""The worker loop: claim a job, renew its lease while it runs, store its result. Independent of Ray and HTTP."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from serving.service.config import QueueRules, ServiceConfig
from serving.service.errors import JobCancelled, public_reason
from serving.service.job_queue import Facts, Job, JobKind, JobQueue
from serving.service.store import Store

log = logging.getLogger(__name__)


class JobLease:
    """The lease of a running job, to which it reports progress and which tells it to stop."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._lost = threading.Event()
        self.done = 0
        self.total = 0

    def progress(self, done: int, total: int) -> None:
        """Store the progress. Raises JobCancelled when the job should stop."""
        self.done, self.total = done, total
        if self.cancelled():
            raise JobCancelled

    def cancelled(self) -> bool:
        """Return True when the job was cancelled or given to another worker, or the service stops."""
        return self._lost.is_set() or self._stopping.is_set()

    def lose(self) -> None:
        self._lost.set()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()


JobWork = Callable[[Job, JobLease], Facts]


class Worker:
    """Runs jobs of one kind, one at a time, in a background thread.

    Args:
        work: runs the job and returns its facts. Its ValueError is about the input and is reported to the client;
            JobCancelled means that it stopped because of its lease; any other exception is logged.
        names: returns server path -> the client's name for it, for messages about a job.
        ended: called when a job no longer needs its inputs.
    """

    def __init__(
        self,
        jobs: JobQueue,
        kind: JobKind,
        work: JobWork,
        rules: QueueRules,
        *,
        name: str,
        names: Callable[[Job], dict[str, str]],
        ended: Callable[[Job], None],
    ) -> None:
        self._jobs, self._kind, self._work, self._rules = jobs, kind, work, rules
        self._name, self._names, self._ended = name, names, ended
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"{kind}-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the current step; a running job goes back into the queue."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = self.run_one()
            except Exception:  # a locked or full table must not end the worker
                log.exception("the %s worker could not reach the jobs table", self._kind)
                worked = False
            if not worked:
                self._stopping.wait(self._rules.poll_s)

    def run_one(self) -> bool:
        """Claim and run one job. Return False when none is waiting."""
        job = self._jobs.claim(self._kind, self._name)
        if job is None:
            return False
        lease = JobLease(self._stopping)
        over = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(job, lease, over), daemon=True)
        renewer.start()
        try:
            facts = self._work(job, lease)
        except JobCancelled:
            self._put_back(job, lease)
        except Exception as error:  # noqa: BLE001 - the job must end and the worker continue
            self._fail(job, lease, error)
        else:
            if self._jobs.finish(job, facts):
                self._ended(job)
        finally:
            over.set()
            renewer.join()
        return True

    def _renew(self, job: Job, lease: JobLease, over: threading.Event) -> None:
        """Renew the lease until `over`, at least three times per lease, so that one slow write does not lose it."""
        while not over.wait(min(self._rules.lease_s / 3, 1.0)):
            try:
                held = self._jobs.renew(job, lease.done, lease.total)
            except Exception:  # tried again before the lease expires
                log.exception("the lease of job %s could not be renewed", job.id)
                continue
            if not held:
                lease.lose()
                return

    def _put_back(self, job: Job, lease: JobLease) -> None:
        if lease.lost:
            self._end_if_cancelled(job)
        else:
            self._jobs.release(job)

    def _fail(self, job: Job, lease: JobLease, error: Exception) -> None:
        if lease.cancelled():  # errors of a job that is being stopped say nothing about its input
            self._put_back(job, lease)
            return
        if not isinstance(error, ValueError):
            log.error("job %s failed", job.id, exc_info=error)
        if self._jobs.fail(job, public_reason(error, self._names(job))):
            self._ended(job)

    def _end_if_cancelled(self, job: Job) -> None:
        """Release the inputs of a cancelled job, but not of one that another worker has claimed."""
        if self._jobs.get(job.id).state == "cancelled":
            self._ended(job)


def client_names(store: Store, job: Job) -> dict[str, str]:
    """Return server path -> the client's name of each upload."""
    request = job.request
    if request.kind == "video":
        return {str(store.upload(job.id, request.driver)): "driver"}
    return {str(store.upload(job.id, name)): f"picture {number}" for number, name in enumerate(request.pictures, 1)}


class Replica:
    """A Serve replica that receives no calls: it takes its work from the job queue."""

    def __init__(self, config: ServiceConfig, store: Store, kind: JobKind, work: JobWork) -> None:
        self._worker = Worker(
            JobQueue(store.jobs_table, config.queue),
            kind,
            work,
            config.queue,
            name=f"{kind}-{os.getpid()}",
            names=lambda job: client_names(store, job),
            ended=lambda job: store.remove_uploads(job.id),
        )
        self._worker.start()

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._worker.alive:
            raise RuntimeError("the worker's loop has ended")

    def __del__(self) -> None:
        if hasattr(self, "_worker"):  # missing when the constructor raised
            self._worker.stop()
