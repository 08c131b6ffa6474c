"""A private Postgres server of the packages that apt installs, gone when the block ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgres_server(port: int | None = None) -> Iterator[Path]:
    """Yield the folder of the server's socket, for its administrator `sfumato`; skip the test without Postgres.

    Args:
        port: TCP port of 127.0.0.1 on which users have to give their passwords; None: the socket only.
    """
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
    who = ["-U", "sfumato", "--auth-local=trust", "--auth-host=scram-sha-256"]
    subprocess.run([*user, binaries / "initdb", "-D", data, *who, "--no-sync"], **quiet)
    address = "listen_addresses=" if port is None else f"listen_addresses=127.0.0.1 -c port={port}"
    options = f"-c {address} -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
    control = [*user, binaries / "pg_ctl", "-D", data]
    subprocess.run([*control, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield folder
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder)


def run_sql(folder: Path, sql: str) -> None:
    """Run statements as the administrator of the server."""
    (socket,) = folder.glob(".s.PGSQL.*[0-9]")
    command = [_BINARIES[-1] / "psql", "-v", "ON_ERROR_STOP=1", "-h", folder, "-p", socket.suffix[1:]]
    subprocess.run([*command, "-U", "sfumato", "postgres"], input=sql, text=True, check=True, capture_output=True)


def create_database(server: str) -> str:
    """Create an empty database on the server of the fixture `postgres`; return its URL."""
    name = f"test_{os.urandom(6).hex()}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return server.format(name=name)
