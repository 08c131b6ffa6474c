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

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, String, and_, case, cast, func, literal, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from serving.service.config import QueueRules
from serving.service.errors import BadInput, Conflict, NotFound, QueueFull
from serving.service.state.counters import count, read_counters
from serving.service.state.database import Database
from serving.service.state.requests import (
    AvatarRequest,
    Facts,
    FailureCause,
    JobKind,
    JobState,
    Request,
    VideoRequest,
    from_json,
    to_json,
)
from serving.service.state.tables import jobs as table

ACTIVE: tuple[JobState, ...] = ("queued", "running")
ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")
_MAX_CRASHES = 2


@dataclass(frozen=True)
class Job:
    """One row. Times are seconds since the epoch; `attempts` is the number of claims."""

    id: str
    state: JobState
    owner: str
    """Id of the API key that it belongs to; "" without keys."""
    avatar_id: str
    request: Request
    attempts: int
    crashes: int
    """Number of worker processes that died or hung while running it."""
    stage: str
    done: int
    total: int
    facts: Facts
    error: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    fingerprint: str | None
    has_uploads: bool


@dataclass(frozen=True)
class QueueCounts:
    """The queue of one kind of jobs, for scaling and metrics."""

    queued: int
    running: int
    oldest_s: float
    """Age of the job that has waited longest."""


class JobQueue:
    """The jobs table of a database."""

    def __init__(self, database: Database, rules: QueueRules, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rules = rules
        self._now = now

    @property
    def rules(self) -> QueueRules:
        """Limits and timing."""
        return self._rules

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
    ) -> tuple[Job, bool]:
        """Queue a reserved job. Return it and True, or its owner's job with this idempotency key and False.

        Args:
            max_waiting: of the owner's jobs; None: the queue's limit alone counts.

        Raises:
            QueueFull: too many jobs are waiting.
            BadInput: the key was used for an upload with another fingerprint.
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
            connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.state == "receiving")
                .values(
                    state="queued",
                    request=to_json(request),
                    idempotency_key=idempotency_key,
                    fingerprint=fingerprint,
                    created_at=self._now(),
                )
            )
            return _job(self._row(connection, job_id)), True

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

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFound."""
        with self._database.reading() as connection:
            return _job(self._row(connection, job_id))

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
        return _job(row)

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
            return [_job(row) for row in connection.execute(query)]

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
                .values(state="cancelled", finished_at=self._now(), lease_until=None)
            )
            job = _job(self._row(connection, job_id))
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
            job = _job(self._row(connection, job_id))
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
                )
            )
            return _job(self._row(connection, job_id))

    def claim(self, kind: JobKind, worker: str) -> Job | None:
        """Claim a job of this kind that waits or whose lease has expired; None when there is none.

        The owner with the fewest running jobs comes first, then the oldest job.
        """
        now = self._now()
        lost = and_(table.c.state == "running", table.c.lease_until < now)
        running = table.alias("running")
        load = (
            select(func.count())
            .select_from(running)
            .where(running.c.owner == table.c.owner, running.c.state == "running", running.c.lease_until >= now)
            .scalar_subquery()
        )
        oldest = (
            select(table.c.id)
            .where(table.c.kind == kind, or_(table.c.state == "queued", lost))
            .order_by(load, table.c.created_at, table.c.id)
            .limit(1)
        )
        with self._database.writing() as connection:
            self._database.serialize(connection)
            times = cast(table.c.lost + 1, String)
            reason = literal("given up: ") + times + literal(" workers were lost while running it")
            given_up = connection.execute(
                update(table)
                .where(table.c.kind == kind, lost, table.c.lost + 1 >= self._rules.max_attempts)
                .values(state="failed", finished_at=now, lease_until=None, error=reason)
            ).rowcount
            if given_up:
                ended = {("jobs_ended", f"{kind}/failed"): given_up, ("job_failures", f"{kind}/lost"): given_up}
                count(connection, ended)
            job_id = connection.scalar(oldest)
            if job_id is None:
                return None
            connection.execute(
                update(table)
                .where(table.c.id == job_id)
                .values(
                    state="running",
                    worker=worker,
                    lease_until=now + self._rules.lease_s,
                    attempts=table.c.attempts + 1,
                    lost=table.c.lost + case((table.c.state == "running", 1), else_=0),
                    started_at=now,
                    stage="",
                    done=0,
                    total=0,
                )
            )
            return _job(self._row(connection, job_id))

    def renew(self, job: Job, done: int, total: int, stage: str = "") -> bool:
        """Renew the lease and store the progress. Return False when this claim no longer holds the job."""
        return self._settle(job, {}, lease_until=self._now() + self._rules.lease_s, done=done, total=total, stage=stage)

    def finish(self, job: Job, facts: Facts, stages: Mapping[str, float] | None = None) -> bool:
        """Mark a job as done. Return False when this claim no longer holds it; its result is then removed.

        Args:
            stages: seconds of each stage, for the metrics.
        """
        now, kind = self._now(), job.request.kind
        device = facts.get("device", "cpu")
        return self._settle(
            job,
            {
                ("jobs_ended", f"{kind}/done"): 1,
                ("device_seconds", f"{kind}/{device}"): now - (job.started_at or now),
                **{("job_stage_seconds", f"{kind}/{stage}"): seconds for stage, seconds in (stages or {}).items()},
            },
            state="done",
            facts=json.dumps(dict(facts)),
            finished_at=now,
            lease_until=None,
            done=table.c.total,
            expires_at=self._expiry(now) if job.request.kind == "video" else None,
        )

    def fail(self, job: Job, reason: str, cause: FailureCause = "internal") -> bool:
        """Mark a job as failed, with a reason for the client and a cause for the metrics."""
        now, kind = self._now(), job.request.kind
        return self._settle(
            job,
            {("jobs_ended", f"{kind}/failed"): 1, ("job_failures", f"{kind}/{cause}"): 1},
            state="failed",
            error=reason,
            finished_at=now,
            lease_until=None,
            expires_at=self._expiry(now),
        )

    def crash(self, job: Job, reason: str) -> bool:
        """Put a job back whose process died or hung, or fail it when it is the second time."""
        if job.crashes + 1 >= _MAX_CRASHES:
            return self.fail(job, f"given up after {_MAX_CRASHES} crashes: {reason}", "crashed")
        return self._settle(job, {}, state="queued", crashes=table.c.crashes + 1, lease_until=None)

    def release(self, job: Job) -> bool:
        """Put a running job back into the queue when its worker stops; this attempt does not count."""
        return self._settle(job, {}, state="queued", attempts=table.c.attempts - 1, lease_until=None)

    def uploads_removed(self, job_id: str) -> None:
        """Note that a job's uploads are gone."""
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id == job_id).values(has_uploads=0))

    def stale_uploads(self) -> Sequence[str]:
        """Return the ids of ended jobs whose uploads are kept no longer, but are still there."""
        due = self._now() - (self._rules.keep_uploads_s or 0.0)
        query = select(table.c.id).where(table.c.state.in_(ENDED), table.c.has_uploads == 1, table.c.finished_at <= due)
        with self._database.reading() as connection:
            return connection.scalars(query).all()

    def delete(self, job_ids: Sequence[str]) -> None:
        """Remove rows; call it when the files of these jobs are gone."""
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.id.in_(job_ids)))

    def expired(self, receiving_s: float) -> Sequence[Job]:
        """Return ended jobs that have expired, and those that have been receiving for longer than `receiving_s`."""
        now = self._now()
        stuck = and_(table.c.state == "receiving", table.c.created_at < now - receiving_s)
        over = and_(table.c.state.in_(ENDED), table.c.expires_at < now)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(select(table).where(or_(stuck, over)))]

    def _expiry(self, now: float) -> float | None:
        return None if self._rules.keep_results_s is None else now + self._rules.keep_results_s

    def counters(self) -> Mapping[tuple[str, str], float]:
        """Return the counters of ended jobs by (name, label), see `counters`."""
        return read_counters(self._database)

    def _settle(self, job: Job, counted: Mapping[tuple[str, str], float], **values: Any) -> bool:
        """Update the row if this claim still holds it, and count; return whether it did."""
        holds: ColumnElement[bool] = and_(
            table.c.id == job.id, table.c.state == "running", table.c.attempts == job.attempts
        )
        with self._database.writing() as connection:
            if counted:
                self._database.serialize(connection)
            settled = connection.execute(update(table).where(holds).values(**values)).rowcount == 1
            if settled:
                count(connection, counted)
            return settled

    def _by_key(self, connection: Connection, owner: str, key: str) -> Job | None:
        row = connection.execute(select(table).where(table.c.owner == owner, table.c.idempotency_key == key)).first()
        return None if row is None else _job(row)

    def _row(self, connection: Connection, job_id: str) -> Any:
        row = connection.execute(select(table).where(table.c.id == job_id)).first()
        if row is None:
            raise NotFound("there is no such job")
        return row


def _job(row: Any) -> Job:
    values = row._mapping
    return Job(
        id=values["id"],
        state=values["state"],
        owner=values["owner"],
        avatar_id=values["avatar_id"],
        request=from_json(values["request"]),
        attempts=values["attempts"],
        crashes=values["crashes"],
        stage=values["stage"],
        done=values["done"],
        total=values["total"],
        facts=json.loads(values["facts"]),
        error=values["error"],
        created_at=values["created_at"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        expires_at=values["expires_at"],
        fingerprint=values["fingerprint"],
        has_uploads=bool(values["has_uploads"]),
    )
