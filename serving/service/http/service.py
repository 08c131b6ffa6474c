"""What the routes work with: the jobs, the files, and the threads in which they do so."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from serving.service import errors
from serving.service.config import ServiceConfig, UploadLimits, read_api_key
from serving.service.http.access import Access, Caller
from serving.service.state.audit import AuditLog
from serving.service.state.database import Database
from serving.service.state.drivers import Drivers
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.keys import ApiKeys
from serving.service.state.requests import AvatarRequest
from serving.service.store import Store, checked_id
from serving.service.work.stills import DrawStill

MAX_STILLS = 8
"""Maximum number of pictures that a front end waits for at the same time."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Service:
    """Objects that the routes use."""

    jobs: JobQueue
    drivers: Drivers
    audit: AuditLog
    store: Store
    access: Access
    limits: UploadLimits
    require_consent: bool = False
    webhook_hosts: tuple[str, ...] = ()
    draw_still: DrawStill | None = None
    """Draws a picture of an avatar; None: none are drawn here."""
    # Uploads wait for the disk or the store: with threads of their own, they never keep a read waiting.
    _reads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(16))
    _writes: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    stills_waiting: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MAX_STILLS))

    @staticmethod
    def create(config: ServiceConfig, draw_still: DrawStill | None = None) -> Service:
        """Open the database and the store of a configuration.

        Raises:
            ValueError, FileNotFoundError: the configuration, the key or the database's URL is wrong.
            Unavailable: the database does not answer.
        """
        database = Database(config.database_url)
        keys = ApiKeys(database)
        api_key = read_api_key(config, required=not keys.any())
        return Service(
            JobQueue(database, config.queue),
            Drivers(database),
            AuditLog(database),
            config.store(),
            Access(api_key, keys, api_key is None and config.open, config.allowed_hosts),
            config.limits,
            config.require_consent,
            config.webhook_hosts,
            draw_still,
        )

    async def reading(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a short function that reads, in a thread."""
        call = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, limiter=self._reads)

    async def storing(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function that copies or decodes an upload, in a thread."""
        call = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, limiter=self._writes)

    def job(self, job_id: str, caller: Caller) -> Job:
        """Return a job of the caller's. Raises NotFound."""
        job = self.jobs.get(checked_id(job_id, "job"))
        if not caller.sees(job.owner) or job.state == "receiving":
            raise errors.NotFound("there is no such job")
        return job

    def avatar_job(self, avatar_id: str, caller: Caller) -> Job:
        """Return the job that makes an avatar of the caller's. Raises NotFound."""
        job = self.jobs.avatar_job(checked_id(avatar_id, "avatar"))
        if not caller.sees(job.owner):
            raise errors.NotFound("there is no such avatar")
        assert isinstance(job.request, AvatarRequest)
        return job

    def delete_job(self, job: Job) -> None:
        """Cancel a job if it is active, and remove its files and its row."""
        with contextlib.suppress(errors.Conflict):
            self.jobs.cancel(job.id)
        self.store.remove_uploads(job.id)
        self.store.remove_result(job.id)
        self.jobs.delete([job.id])

    def delete_avatar(self, avatar_id: str) -> None:
        """Remove an avatar and everything that was made of it: uploads, weights, pictures, videos, rows."""
        jobs = self.jobs.of_avatar(avatar_id)
        for job_id in jobs:
            with contextlib.suppress(errors.Conflict, errors.NotFound):
                self.jobs.cancel(job_id)
        self.store.remove_avatar(avatar_id)
        for job_id in jobs:
            self.store.remove_uploads(job_id)
            self.store.remove_result(job_id)
        self.jobs.delete(jobs)
