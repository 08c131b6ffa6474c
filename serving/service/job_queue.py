"""The job queue: an SQLite table with one row per job, safe for many threads and processes.

A worker claims a job with a lease and renews it while it works. When a worker is lost, its lease expires and the job
goes to another worker; the attempt number of a claim prevents the late worker from changing the job.

    queued ──claim──▶ running ──▶ done | failed | cancelled
       ▲                 │
       └── lease over ───┘
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from serving.service.config import QueueRules
from serving.service.errors import BadInput, Conflict, NotFound, QueueFull

JobKind = Literal["avatar", "video"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Facts = Mapping[str, str | int | float | bool | None]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    avatar_id TEXT NOT NULL,
    request TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    facts TEXT NOT NULL DEFAULT '{}',
    error TEXT,
    worker TEXT,
    lease_until REAL,
    idempotency_key TEXT UNIQUE,
    fingerprint TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, kind, created_at);
CREATE INDEX IF NOT EXISTS jobs_by_avatar ON jobs (avatar_id, kind);
"""
_BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class AvatarRequest:
    """Make an avatar of uploaded pictures (file names in the job's upload folder)."""

    pictures: tuple[str, ...]
    consent: str | None = None
    kind: Literal["avatar"] = "avatar"


@dataclass(frozen=True)
class VideoRequest:
    """Render the job's avatar with an uploaded driver (a file name in the job's upload folder)."""

    driver: str
    kind: Literal["video"] = "video"


Request = AvatarRequest | VideoRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])


@dataclass(frozen=True)
class Job:
    """One row. Times are seconds since the epoch; `attempts` is the number of claims."""

    id: str
    state: JobState
    avatar_id: str
    request: Request
    attempts: int
    done: int
    total: int
    facts: Facts
    error: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    fingerprint: str | None


class JobQueue:
    """The table at `path`, created when missing. Each method opens its own connection, so any thread may call it."""

    def __init__(self, path: Path, rules: QueueRules, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._rules = rules
        self._now = now
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction. IMMEDIATE takes the write lock before the first read, so a claim is atomic."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def submit(
        self,
        job_id: str,
        avatar_id: str,
        request: Request,
        *,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue a job. Return it and True, or the job that already has this idempotency key and False.

        Raises:
            QueueFull: too many jobs are waiting.
            BadInput: the key was used for an upload with another fingerprint.
        """
        with self._transaction() as connection:
            if idempotency_key is not None:
                first = self._by_key(connection, idempotency_key)
                if first is not None:
                    if first.fingerprint != fingerprint:
                        raise BadInput("this Idempotency-Key was used for another upload")
                    return first, False
            self._require_capacity(connection)
            connection.execute(
                "INSERT INTO jobs (id, kind, avatar_id, request, idempotency_key, fingerprint, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job_id,
                    request.kind,
                    avatar_id,
                    _REQUEST.dump_json(request).decode(),
                    idempotency_key,
                    fingerprint,
                    self._now(),
                ),
            )
            return self._get(connection, job_id), True

    def require_capacity(self) -> None:
        """Raise QueueFull when the queue is full; called before an upload is read."""
        with self._connection() as connection:
            self._require_capacity(connection)

    def _require_capacity(self, connection: sqlite3.Connection) -> None:
        (waiting,) = connection.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
        if waiting >= self._rules.max_waiting:
            raise QueueFull(f"{waiting} jobs are waiting already", retry_after_s=self._rules.retry_after_s)

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFound."""
        with self._connection() as connection:
            return self._get(connection, job_id)

    def by_key(self, idempotency_key: str) -> Job | None:
        """Return the job that was submitted with this idempotency key, or None."""
        with self._connection() as connection:
            return self._by_key(connection, idempotency_key)

    def active_ids(self) -> frozenset[str]:
        """Return the ids of waiting and running jobs."""
        with self._connection() as connection:
            rows = connection.execute("SELECT id FROM jobs WHERE state IN ('queued', 'running')").fetchall()
        return frozenset(row["id"] for row in rows)

    def avatar_job(self, avatar_id: str) -> Job:
        """Return the job that makes this avatar. Raises NotFound."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT * FROM jobs WHERE avatar_id = ? AND kind = 'avatar'", (avatar_id,)
            ).fetchone()
        if row is None:
            raise NotFound("there is no such avatar")
        return _job(row)

    def cancel(self, job_id: str) -> Job:
        """Cancel a waiting or running job, whose worker notices within a third of its lease. Idempotent.

        Raises:
            NotFound: there is no such job.
            Conflict: the job has ended.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished_at = ?, lease_until = NULL"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (self._now(), job_id),
            )
            job = self._get(connection, job_id)
        if job.state != "cancelled":
            raise Conflict(f"the job is {job.state}: it can no longer be cancelled")
        return job

    def claim(self, kind: JobKind, worker: str) -> Job | None:
        """Claim the oldest job of this kind that waits or whose lease has expired; None when there is none."""
        now = self._now()
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'failed', finished_at = ?, lease_until = NULL,"
                " error = 'given up: ' || attempts || ' workers were lost while running it'"
                " WHERE kind = ? AND state = 'running' AND lease_until < ? AND attempts >= ?",
                (now, kind, now, self._rules.max_attempts),
            )
            row = connection.execute(
                "UPDATE jobs SET state = 'running', worker = ?, lease_until = ?, attempts = attempts + 1,"
                " started_at = ?, done = 0, total = 0 WHERE id = ("
                "  SELECT id FROM jobs WHERE kind = ?"
                "  AND (state = 'queued' OR (state = 'running' AND lease_until < ?))"
                "  ORDER BY created_at, rowid LIMIT 1) RETURNING id",
                (worker, now + self._rules.lease_s, now, kind, now),
            ).fetchone()
            # Read the row again: RETURNING yields whole-numbered REALs as integers.
            return None if row is None else self._get(connection, row["id"])

    def renew(self, job: Job, done: int, total: int) -> bool:
        """Renew the lease and store the progress. Return False when this claim no longer holds the job."""
        until = self._now() + self._rules.lease_s
        return self._update_claimed(job, "lease_until = ?, done = ?, total = ?", (until, done, total))

    def finish(self, job: Job, facts: Facts) -> bool:
        """Mark a job as done. Return False when this claim no longer holds it; its result is then ignored."""
        return self._update_claimed(
            job,
            "state = 'done', facts = ?, finished_at = ?, lease_until = NULL, done = total",
            (json.dumps(dict(facts)), self._now()),
        )

    def fail(self, job: Job, reason: str) -> bool:
        """Mark a job as failed, with a reason for the client."""
        return self._update_claimed(
            job, "state = 'failed', error = ?, finished_at = ?, lease_until = NULL", (reason, self._now())
        )

    def release(self, job: Job) -> bool:
        """Put a running job back into the queue when its worker stops; this attempt does not count."""
        return self._update_claimed(job, "state = 'queued', attempts = attempts - 1, lease_until = NULL", ())

    def _update_claimed(self, job: Job, assignments: str, values: tuple[object, ...]) -> bool:
        """Update the row if this claim still holds it; return whether it did."""
        with self._transaction() as connection:
            cursor = connection.execute(
                f"UPDATE jobs SET {assignments} WHERE id = ? AND state = 'running' AND attempts = ?",
                (*values, job.id, job.attempts),
            )
            return cursor.rowcount == 1

    def _by_key(self, connection: sqlite3.Connection, key: str) -> Job | None:
        row = connection.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (key,)).fetchone()
        return None if row is None else _job(row)

    def _get(self, connection: sqlite3.Connection, job_id: str) -> Job:
        row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise NotFound("there is no such job")
        return _job(row)


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        state=row["state"],
        avatar_id=row["avatar_id"],
        request=_REQUEST.validate_json(row["request"]),
        attempts=row["attempts"],
        done=row["done"],
        total=row["total"],
        facts=json.loads(row["facts"]),
        error=row["error"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        fingerprint=row["fingerprint"],
    )
