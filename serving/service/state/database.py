"""Connections to the service's database: SQLite in a local file, or Postgres for several machines.

sqlite:////data/jobs.sqlite3                the default
postgresql://user@host/sfumato              any number of front ends and workers
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, event, exc, func, select
from sqlalchemy.pool import NullPool

from serving.service.errors import StorageFull, Unavailable

log = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S = 10.0
_WRITES = "sfumato_writes"
_SUBMIT_LOCK = 0x5F0A  # any number: names the Postgres lock that submitting and claiming take
_MIGRATE_LOCK = 0x5F0B


class Database:
    """A database by its URL, with its tables at the newest version. Methods may be called from any thread.

    Raises:
        ValueError: the URL is no database's, or the database is newer than this version of Sfumato.
        Unavailable: it does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = sqlalchemy.make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
                raise ValueError(f"database {shown(url)}: neither sqlite nor postgresql")
            self._engine = self._create(parsed)
        except exc.ArgumentError:
            raise ValueError(f"database {shown(url)}: no URL such as postgresql://user@host/name") from None
        except ImportError as error:  # pragma: no cover - the driver is a dependency
            raise ValueError(f"database {shown(url)}: {error}") from error
        self._migrating = threading.Lock()
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def _create(self, url: sqlalchemy.URL) -> Engine:
        if not self.is_sqlite:
            return sqlalchemy.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15)
        # A connection each time: one kept open would go on in a file that was removed.
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads. Raises Unavailable when the database does not answer."""
        with self._named_errors(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; it is rolled back when the block raises.

        On SQLite it takes the write lock before its first read, so that what it reads stays true.

        Raises:
            StorageFull, Unavailable: the disk is full; the database does not answer.
        """
        with self._named_errors(), self._connect_to_write() as connection, connection.begin():
            yield connection

    def _connect_to_write(self) -> Connection:
        return self._engine.connect().execution_options(**{_WRITES: True})

    def serialize(self, connection: Connection) -> None:
        """Let no other transaction that calls this run until this one ends (`writing` does it on SQLite)."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_SUBMIT_LOCK)))

    def stamp(self) -> tuple[tuple[int, int], ...] | None:
        """Return what differs after every change of a file's tables: sizes and times; None for a server's."""
        file = self._engine.url.database if self.is_sqlite else None
        if not file:
            return None
        found = []
        for path in (file, f"{file}-wal"):
            with contextlib.suppress(OSError):
                about = os.stat(path)  # noqa: PTH116 - asked several times a second
                found.append((about.st_size, about.st_mtime_ns))
        return tuple(found)

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            reason = str(error.orig)
            if "disk is full" in reason or "No space left" in reason:
                raise StorageFull("the server's disk is full; try again later") from error
            if "no such table" in reason or "unable to open database" in reason:
                log.error("the database is gone; an empty one is made: %s", reason)
                with contextlib.suppress(Unavailable):  # as below
                    self._migrate()
            if isinstance(error, exc.OperationalError | exc.InterfaceError):
                log.error("the database does not answer: %s", reason)
                raise Unavailable("the service's database does not answer; try again", retry_after_s=5) from error
            raise

    def _migrate(self) -> None:
        """Bring the tables to the newest version, once at a time across processes."""
        if self.is_sqlite and (file := self._engine.url.database):
            Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with self._migrating, self._connect_to_write() as connection, connection.begin():
                if not self.is_sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATE_LOCK)))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise ValueError(f"database {shown(self.url)}: made by a newer version of Sfumato ({error})") from error
        except (exc.OperationalError, exc.InterfaceError) as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise Unavailable(f"database {shown(self.url)}: {reason}", retry_after_s=5) from error


def shown(url: str) -> str:
    """Return a database's URL without its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except exc.ArgumentError:
        return url.rpartition("@")[2]


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a job that was accepted survives a power failure


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
