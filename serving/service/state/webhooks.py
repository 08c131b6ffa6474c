"""Which ended jobs are still to be told to their clients. The columns are part of the jobs table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from serving.service.state.database import Database
from serving.service.state.job import Job, job_of
from serving.service.state.tables import jobs as table

_MAX_ATTEMPTS = 8
_FIRST_PAUSE_S = 5.0  # doubles with every attempt: the last is made after ten minutes
_BATCH = 20


@dataclass(frozen=True)
class Delivery:
    """An ended job, and where its client wants to hear of it."""

    job: Job
    url: str


class Webhooks:
    """Deliveries that are due. Several front ends may ask at once: each delivery goes to one of them."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def take(self) -> Sequence[Delivery]:
        """Return deliveries that are due; unless `delivered` is called, each is due again later, eight times in all."""
        now = self._now()
        due = select(table).where(table.c.webhook_due <= now).order_by(table.c.webhook_due).limit(_BATCH)
        with self._database.reading() as connection:
            rows = connection.execute(due).all()
        taken = []
        for row in rows:
            attempts = row.webhook_attempts + 1
            pause = None if attempts >= _MAX_ATTEMPTS else now + _FIRST_PAUSE_S * 2.0**row.webhook_attempts
            mine = (table.c.id == row.id, table.c.webhook_due == row.webhook_due)
            with self._database.writing() as connection:
                changed = connection.execute(
                    update(table).where(*mine).values(webhook_due=pause, webhook_attempts=attempts)
                )
            if changed.rowcount == 1:
                taken.append(Delivery(job_of(row), row.webhook))
        return taken

    def delivered(self, job_id: str) -> None:
        """Note that a client has been told."""
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id == job_id).values(webhook_due=None))
