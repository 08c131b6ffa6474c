"""API keys: kept as sha256, shown once when they are made."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select, update

from serving.service.errors import NotFound
from serving.service.state.database import Database
from serving.service.state.tables import api_keys as table

Scope = Literal["read", "write", "admin"]
"""read: see one's own jobs; write: also make and delete them; admin: those of all keys."""
_PREFIX = "sfm_"  # so that secret scanners recognise a leaked key
_NAME_LENGTH = 80


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret. Times are seconds since the epoch."""

    id: str
    name: str
    scope: Scope
    max_waiting: int | None
    """Limit of its waiting jobs; None: the queue's limit alone."""
    created_at: float
    revoked_at: float | None


class ApiKeys:
    """The keys of a database."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def add(self, name: str, scope: Scope = "write", max_waiting: int | None = None) -> tuple[ApiKey, str]:
        """Make a key; return it and its secret, which is not kept.

        Raises:
            ValueError: the name is empty or too long, or the limit is below 1.
        """
        if not name.strip() or len(name) > _NAME_LENGTH or not name.isprintable():
            raise ValueError(f"a key's name has 1 to {_NAME_LENGTH} printable characters: got {name[:_NAME_LENGTH]!r}")
        if max_waiting is not None and max_waiting < 1:
            raise ValueError(f"a key's limit of waiting jobs starts at 1: got {max_waiting}")
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(secrets.token_hex(4), name.strip(), scope, max_waiting, self._now(), None)
        with self._database.writing() as connection:
            connection.execute(
                table.insert().values(
                    id=key.id,
                    name=key.name,
                    digest=_digest(secret),
                    scope=scope,
                    max_waiting=max_waiting,
                    created_at=key.created_at,
                )
            )
        return key, secret

    def list(self) -> Sequence[ApiKey]:
        """Return all keys, the newest last; revoked ones too."""
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(select(table).order_by(table.c.created_at))]

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key open nothing more. Idempotent. Raises NotFound."""
        with self._database.writing() as connection:
            connection.execute(
                update(table).where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=self._now())
            )
            row = connection.execute(select(table).where(table.c.id == key_id)).first()
        if row is None:
            raise NotFound(f"there is no API key {key_id}")
        return _key(row)

    def find(self, secret: str) -> ApiKey | None:
        """Return the key with this secret unless it is revoked."""
        query = select(table).where(table.c.digest == _digest(secret), table.c.revoked_at.is_(None))
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _key(row)

    def any(self) -> bool:
        """Whether there is a key that is not revoked."""
        with self._database.reading() as connection:
            return (
                connection.execute(select(table.c.id).where(table.c.revoked_at.is_(None)).limit(1)).first() is not None
            )


def _digest(secret: str) -> str:
    # A key has 256 random bits: a slow hash would add nothing.
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> ApiKey:
    return ApiKey(row.id, row.name, row.scope, row.max_waiting, row.created_at, row.revoked_at)
