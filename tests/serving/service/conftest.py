"""Databases for the tests of the service: every test of a state runs on SQLite and on Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from serving.service.state.database import Database


@pytest.fixture
def another(database: Database) -> Iterator[Database]:
    """A second view of the same database, as another process has it."""
    made = Database(database.url)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path}/jobs.sqlite3")
        return
    server: str = request.getfixturevalue("postgres")
    name = f"test_{os.urandom(6).hex()}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    made = Database(server.format(name=name))
    yield made
    made.close()
