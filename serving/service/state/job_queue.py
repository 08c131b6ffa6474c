"""The job queue: a table with one row per job, safe for many threads, processes and machines.

A worker claims a job with a lease and renews it while it works. When a worker is lost, its lease expires and the job
goes to another worker; the attempt number of a claim prevents the late worker from changing the job.

    receiving ──submit──▶ queued ──claim──▶ running ──▶ done | failed | cancelled
                            ▲                 │
                            └── lease over ───┘

A job has its row before its files are stored, so that every stored file belongs to a row. Leases compare the clocks of
machines: keep them in step to a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select, update

from serving.service.errors import BadInput, Conflict, QueueFull
from serving.service.state.job import ACTIVE, ENDED, Job, QueueCounts, job_of
from serving.service.state.job_claims import JobClaims
from serving.service.state.requests import AvatarRequest, JobKind, Request, VideoRequest, to_json
from serving.service.state.tables import jobs as table

__all__ = ["ACTIVE", "ENDED", "Job", "JobQueue", "QueueCounts"]


class JobQueue(JobClaims):
    """The jobs table of a database."""

    def reserve(self, job_id: str, avatar_id: str, kind: JobKind, owner: str = "") -> None:
        """Enter a job whose files are about to be stored; `submit` queues it.

        Raises:
            Conflict: the id is taken.
        """
        with self._database.writing() as connection:
            if connection.execute(select(table.c.id).where(table.c.id == job_id)).first() is not None:
                raise Conflict("there is a job with this id already")
            connection.execute(
                table.insert().values(
                    id=job_id,
                    kind=kind,
                    state="receiving",
                    owner=owner,
                    avatar_id=avatar_id,
                    request=to_json(AvatarRequest(()) if kind == "avatar" else VideoRequest("")),
                    created_at=self._now(),
                )
            )

    def submit(
        self,
        job_id: str,
        request: Request,
        *,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
        max_waiting: int | None = None,
        webhook: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue a reserved job. Return it and True, or its owner's job with this idempotency key and False.

        Args:
            max_waiting: of the owner's jobs; None: the queue's limit alone counts.
            webhook: URL that is told when the job has ended.

        Raises:
            QueueFull: too many jobs are waiting.
            BadInput: the key was used for an upload with another fingerprint.
            Conflict: another job has made or makes the avatar.
        """
        with self._database.writing() as connection:
            self._database.serialize(connection)
            owner = str(self._row(connection, job_id).owner)
            if idempotency_key is not None:
                first = self._by_key(connection, owner, idempotency_key)
                if first is not None:
                    if first.fingerprint != fingerprint:
                        raise BadInput("this Idempotency-Key was used for another upload")
                    connection.execute(table.delete().where(table.c.id == job_id, table.c.state == "receiving"))
                    return first, False
            self._require_capacity(connection, owner, max_waiting)
            if request.kind == "avatar":
                self._require_new_avatar(connection, job_id)
            connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.state == "receiving")
                .values(
                    state="queued",
                    request=to_json(request),
                    idempotency_key=idempotency_key,
                    fingerprint=fingerprint,
                    webhook=webhook,
                    created_at=self._now(),
                )
            )
            return job_of(self._row(connection, job_id)), True

    def require_capacity(self, owner: str = "", max_waiting: int | None = None) -> None:
        """Raise QueueFull when the queue is full; called before an upload is read."""
        with self._database.reading() as connection:
            self._require_capacity(connection, owner, max_waiting)

    def _require_capacity(self, connection: Connection, owner: str, max_waiting: int | None) -> None:
        waiting = select(func.count()).select_from(table).where(table.c.state == "queued")
        total = connection.scalar(waiting) or 0
        if total >= self._rules.max_waiting:
            raise QueueFull(f"{total} jobs are waiting already", retry_after_s=self._rules.retry_after_s)
        if max_waiting is not None:
            own = connection.scalar(waiting.where(table.c.owner == owner)) or 0
            if own >= max_waiting:
                raise QueueFull(f"{own} jobs of this key are waiting already", retry_after_s=self._rules.retry_after_s)

    def _require_new_avatar(self, connection: Connection, job_id: str) -> None:
        avatar_id = select(table.c.avatar_id).where(table.c.id == job_id).scalar_subquery()
        others = select(table.c.id).where(
            table.c.avatar_id == avatar_id, table.c.kind == "avatar", table.c.state != "receiving", table.c.id != job_id
        )
        if connection.execute(others.limit(1)).first() is not None:
            raise Conflict("there is an avatar with this id already")

    def cancel(self, job_id: str) -> Job:
        """Cancel a waiting or running job, whose worker notices when it renews its lease. Idempotent.

        Raises:
            NotFound: there is no such job.
            Conflict: the job has ended.
        """
        with self._database.writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.state.in_(ACTIVE))
                .values(state="cancelled", **self._end(self._now()))
            )
            job = job_of(self._row(connection, job_id))
        if job.state != "cancelled":
            raise Conflict(f"the job is {job.state}: it can no longer be cancelled")
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again.

        Raises:
            NotFound: there is no such job.
            Conflict: it has not failed.
            QueueFull: too many jobs are waiting.
        """
        with self._database.writing() as connection:
            self._database.serialize(connection)
            job = job_of(self._row(connection, job_id))
            if job.state not in ("failed", "cancelled"):
                raise Conflict(f"the job is {job.state}: only a failed or cancelled one can be tried again")
            if not job.has_uploads and (job.request.kind == "avatar" or job.request.driver_id is None):
                raise Conflict("the job's uploads are no longer kept: send them again")
            self._require_capacity(connection, job.owner, None)
            connection.execute(
                update(table)
                .where(table.c.id == job_id)
                .values(
                    state="queued",
                    # `attempts` goes on, so that a late worker of an earlier attempt still holds no claim.
                    lost=0,
                    crashes=0,
                    error=None,
                    done=0,
                    total=0,
                    stage="",
                    started_at=None,
                    finished_at=None,
                    expires_at=None,
                    webhook_due=None,
                    webhook_attempts=0,
                )
            )
            return job_of(self._row(connection, job_id))

    def uploads_removed(self, job_id: str) -> None:
        """Note that a job's uploads are gone."""
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id == job_id).values(has_uploads=0))

    def delete(self, job_ids: Sequence[str]) -> None:
        """Remove rows; call it when the files of these jobs are gone."""
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.id.in_(job_ids)))
