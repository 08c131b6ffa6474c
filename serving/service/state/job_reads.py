"""Questions to the jobs table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from serving.service.config import QueueRules
from serving.service.errors import NotFound
from serving.service.state.counters import read_counters
from serving.service.state.database import Database
from serving.service.state.job import ENDED, Job, QueueCounts, job_of
from serving.service.state.requests import JobKind, JobState
from serving.service.state.tables import jobs as table


class JobReads:
    """The jobs table of a database."""

    def __init__(self, database: Database, rules: QueueRules, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rules = rules
        self._now = now

    @property
    def rules(self) -> QueueRules:
        """Limits and timing."""
        return self._rules

    def stamp(self) -> object | None:
        """Return what differs after every change of the tables; None where only a look at them tells."""
        return self._database.stamp()

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFound."""
        with self._database.reading() as connection:
            return job_of(self._row(connection, job_id))

    def by_key(self, idempotency_key: str, owner: str = "") -> Job | None:
        """Return the job that the owner submitted with this idempotency key, or None."""
        with self._database.reading() as connection:
            return self._by_key(connection, owner, idempotency_key)

    def avatar_job(self, avatar_id: str) -> Job:
        """Return the job that makes this avatar. Raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(table).where(
                    table.c.avatar_id == avatar_id, table.c.kind == "avatar", table.c.state != "receiving"
                )
            ).first()
        if row is None:
            raise NotFound("there is no such avatar")
        return job_of(row)

    def of_avatar(self, avatar_id: str) -> Sequence[str]:
        """Return the ids of all jobs of an avatar, that which makes it included."""
        with self._database.reading() as connection:
            return list(connection.scalars(select(table.c.id).where(table.c.avatar_id == avatar_id)))

    def list(
        self,
        *,
        owner: str | None = None,
        kind: JobKind | None = None,
        state: JobState | None = None,
        avatar_id: str | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> Sequence[Job]:
        """Return jobs, newest first.

        Args:
            owner, kind, state, avatar_id: only those; None: all.
            before: (created_at, id) of the last job of the page before.
        """
        query = select(table).where(table.c.state != "receiving")
        for column, value in (
            (table.c.owner, owner),
            (table.c.kind, kind),
            (table.c.state, state),
            (table.c.avatar_id, avatar_id),
        ):
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            created_at, last_id = before
            older = and_(table.c.created_at == created_at, table.c.id < last_id)
            query = query.where(or_(table.c.created_at < created_at, older))
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def position(self, job: Job) -> int | None:
        """Return the number of jobs that were queued before a waiting one, plus one; None when it does not wait."""
        if job.state != "queued":
            return None
        earlier = or_(
            table.c.created_at < job.created_at, and_(table.c.created_at == job.created_at, table.c.id < job.id)
        )
        query = select(func.count()).select_from(table)
        query = query.where(table.c.state == "queued", table.c.kind == job.request.kind, earlier)
        with self._database.reading() as connection:
            return 1 + (connection.scalar(query) or 0)

    def counts(self, kind: JobKind) -> QueueCounts:
        """Return how many jobs of this kind wait and run. A running one whose lease is over counts as waiting."""
        now = self._now()
        lost = and_(table.c.state == "running", table.c.lease_until < now)
        waits = or_(table.c.state == "queued", lost)
        with self._database.reading() as connection:
            queued, oldest = connection.execute(
                select(func.count(), func.min(table.c.created_at)).where(table.c.kind == kind, waits)
            ).one()
            running = connection.scalar(
                select(func.count()).where(table.c.kind == kind, table.c.state == "running", table.c.lease_until >= now)
            )
        return QueueCounts(queued, running or 0, 0.0 if oldest is None else max(now - oldest, 0.0))

    def stale_uploads(self) -> Sequence[str]:
        """Return the ids of ended jobs whose uploads are kept no longer, but are still there."""
        due = self._now() - (self._rules.keep_uploads_s or 0.0)
        query = select(table.c.id).where(table.c.state.in_(ENDED), table.c.has_uploads == 1, table.c.finished_at <= due)
        with self._database.reading() as connection:
            return connection.scalars(query).all()

    def expired(self, receiving_s: float) -> Sequence[Job]:
        """Return ended jobs that have expired, and those that have been receiving for longer than `receiving_s`."""
        now = self._now()
        stuck = and_(table.c.state == "receiving", table.c.created_at < now - receiving_s)
        over = and_(table.c.state.in_(ENDED), table.c.expires_at < now)
        with self._database.reading() as connection:
            return [job_of(row) for row in connection.execute(select(table).where(or_(stuck, over)))]

    def counters(self) -> Mapping[tuple[str, str], float]:
        """Return the counters of ended jobs by (name, label), see `counters`."""
        return read_counters(self._database)

    def _by_key(self, connection: Connection, owner: str, key: str) -> Job | None:
        row = connection.execute(select(table).where(table.c.owner == owner, table.c.idempotency_key == key)).first()
        return None if row is None else job_of(row)

    def _row(self, connection: Connection, job_id: str) -> Any:
        row = connection.execute(select(table).where(table.c.id == job_id)).first()
        if row is None:
            raise NotFound("there is no such job")
        return row
