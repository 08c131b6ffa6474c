"""Databases for the tests of the service: every test of a state runs on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import create_database

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
    made = Database(create_database(request.getfixturevalue("postgres")))
    yield made
    made.close()
