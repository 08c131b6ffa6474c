"""The audit log: who did what to which object, without any picture or text of a client."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from serving.service.state.database import Database
from serving.service.state.tables import audit as table


@dataclass(frozen=True)
class AuditEntry:
    """One action. `time` is in seconds since the epoch, `owner` the id of the API key."""

    time: float
    owner: str
    action: str
    subject: str


class AuditLog:
    """The audit log of a database."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def note(self, owner: str, action: str, subject: str) -> None:
        """Append an entry, such as ("3f2a...", "avatar.delete", avatar id)."""
        with self._database.writing() as connection:
            connection.execute(table.insert().values(time=self._now(), owner=owner, action=action, subject=subject))

    def entries(self, limit: int = 1000) -> Sequence[AuditEntry]:
        """Return the last entries, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.number.desc()).limit(limit))
            return [AuditEntry(row.time, row.owner, row.action, row.subject) for row in rows]
