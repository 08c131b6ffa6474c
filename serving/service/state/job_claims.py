"""What workers do with jobs: claim them with a lease, renew it, settle them.

A claim's attempt number fences it: a worker that comes back late, after its lease has passed to another one, changes
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import String, and_, case, cast, func, literal, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from serving.service.state.counters import count
from serving.service.state.job import Job, job_of
from serving.service.state.job_reads import JobReads
from serving.service.state.requests import Facts, FailureCause, JobKind
from serving.service.state.tables import jobs as table

_MAX_CRASHES = 2


class JobClaims(JobReads):
    """The jobs table as workers use it."""

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
        with self._database.reading() as connection:  # most often there is none: the write lock is not taken for that
            if connection.scalar(oldest) is None:
                return None
        with self._database.writing() as connection:
            self._database.serialize(connection)
            times = cast(table.c.lost + 1, String)
            reason = literal("given up: ") + times + literal(" workers were lost while running it")
            given_up = connection.execute(
                update(table)
                .where(table.c.kind == kind, lost, table.c.lost + 1 >= self._rules.max_attempts)
                .values(state="failed", error=reason, **self._end(now))
            ).rowcount
            if given_up:
                ended = {
                    ("jobs_ended", f"{kind}/failed"): float(given_up),
                    ("job_failures", f"{kind}/lost"): float(given_up),
                }
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
            return job_of(self._row(connection, job_id))

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
                ("jobs_ended", f"{kind}/done"): 1.0,
                ("device_seconds", f"{kind}/{device}"): now - (job.started_at or now),
                **{("job_stage_seconds", f"{kind}/{stage}"): seconds for stage, seconds in (stages or {}).items()},
            },
            state="done",
            facts=json.dumps(dict(facts)),
            done=table.c.total,
            **self._end(now, expires=kind == "video"),
        )

    def fail(self, job: Job, reason: str, cause: FailureCause = "internal") -> bool:
        """Mark a job as failed, with a reason for the client and a cause for the metrics."""
        now, kind = self._now(), job.request.kind
        return self._settle(
            job,
            {("jobs_ended", f"{kind}/failed"): 1.0, ("job_failures", f"{kind}/{cause}"): 1.0},
            state="failed",
            error=reason,
            **self._end(now),
        )

    def crash(self, job: Job, reason: str) -> bool:
        """Put a job back whose process died or hung, or fail it when it is the second time."""
        if job.crashes + 1 >= _MAX_CRASHES:
            return self.fail(job, f"given up after {_MAX_CRASHES} crashes: {reason}", "crashed")
        return self._settle(job, {}, state="queued", crashes=table.c.crashes + 1, lease_until=None)

    def release(self, job: Job) -> bool:
        """Put a running job back into the queue when its worker stops; this attempt does not count."""
        return self._settle(job, {}, state="queued", attempts=table.c.attempts - 1, lease_until=None)

    def _end(self, now: float, *, expires: bool = True) -> dict[str, Any]:
        """Return the columns of a job that ends now."""
        keep_s = self._rules.keep_results_s
        return {
            "finished_at": now,
            "lease_until": None,
            "expires_at": now + keep_s if expires and keep_s is not None else None,
            "webhook_due": case((table.c.webhook.is_not(None), now), else_=None),
        }

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
