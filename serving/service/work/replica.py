"""Workers of the service, which take their work from the job queue: replicas of Ray Serve that receive no calls, or
parts of the process that runs the service on one machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType

from pipelines import log_lines
from serving.service.config import ServiceConfig
from serving.service.state.database import Database
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.requests import JobKind
from serving.service.work.process import JobProcess
from serving.service.work.worker import Rest, Worker

log = logging.getLogger(__name__)

_MAX_FAILED_STARTS = 3


class Replica:
    """One worker of one kind, with the process that runs its jobs."""

    def __init__(
        self,
        config: ServiceConfig,
        kind: JobKind,
        *,
        rank: int = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            rank: the worker runs while at least this many jobs of its kind wait and run; 0: always.
            environment: further variables of the process that runs its jobs.
        """
        log_lines.install("serve")
        self._store = config.store()
        self._keeps_uploads = config.queue.keep_uploads_s is not None
        self._jobs = JobQueue(Database(config.database_url), config.queue)
        self._process = JobProcess(kind, config, environment=environment)
        self._worker = Worker(
            self._jobs,
            kind,
            self._process.start,
            self._process.run,
            config.queue,
            name=f"{kind}-{socket.gethostname()}-{os.getpid()}",
            ended=self._ended,
            rest=Rest(rank, config.idle_s, self._process.close) if rank else None,
        )
        self._worker.start()

    def _ended(self, job: Job, done: bool) -> None:
        """Remove uploads that are not kept, and what a job that came to nothing may have stored."""
        try:
            if not self._keeps_uploads:
                self._store.remove_uploads(job.id)
                self._jobs.uploads_removed(job.id)
            if not done:
                self._store.remove_result(job.id)
                if job.request.kind == "avatar":
                    self._store.remove_avatar(job.avatar_id)
        except OSError:  # the front end's sweep removes them later
            log.exception("files of job %s could not be removed", job.id, extra={"job": job.id})

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._worker.alive:
            raise RuntimeError("the worker's loop has ended")
        if self._worker.failed_starts >= _MAX_FAILED_STARTS:
            raise RuntimeError("the worker's process does not start")

    def close(self) -> None:
        """Put a running job back into the queue, and end the process that ran it."""
        self._worker.stop()
        self._process.close()

    def __del__(self) -> None:
        if hasattr(self, "_worker"):  # missing when the constructor raised
            self.close()


class FineTuner(Replica):
    """Makes avatars."""

    def __init__(self, config: ServiceConfig) -> None:
        super().__init__(config, "avatar")


class Renderer(Replica):
    """Renders videos."""

    def __init__(self, config: ServiceConfig) -> None:
        super().__init__(config, "video")
