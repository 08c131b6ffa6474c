"""Databases for the tests of the service: every test of a state runs on SQLite and on Postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from serving.service.state.database import Database

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a private Postgres server without its database's name."""
    if not _BINARIES:
        pytest.skip("no Postgres server is installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: that of a socket has at most 107 bytes
    if os.geteuid() == 0:  # Postgres refuses to run as root
        shutil.chown(folder, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    else:
        user = []
    binaries, data = _BINARIES[-1], folder / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*user, binaries / "initdb", "-D", data, "-U", "sfumato", "-A", "trust", "--no-sync"], **quiet)
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
    control = [*user, binaries / "pg_ctl", "-D", data]
    subprocess.run([*control, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
    yield f"postgresql://sfumato@/{{name}}?host={folder}"
    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


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
