"""Databases of other versions: an older one is brought up to date with its rows, a newer one is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from serving.service.config import QueueRules
from serving.service.state.database import Database
from serving.service.state.job_queue import JobQueue
from serving.service.state.requests import AvatarRequest, VideoRequest

# The table as services made it before there were migrations (serving/jobs.py at f6ca424).
_FIRST = """
CREATE TABLE jobs (
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
CREATE INDEX jobs_by_state ON jobs (state, kind, created_at);
CREATE INDEX jobs_by_avatar ON jobs (avatar_id, kind);
"""
_COLUMNS = (
    "id, kind, state, avatar_id, request, attempts, done, total, facts, error, worker, lease_until, idempotency_key,"
    " fingerprint, created_at, started_at, finished_at"
)
_AVATAR = '{"pictures":["picture-01.jpg"],"consent":"It is me.","kind":"avatar"}'
_VIDEO = '{"driver":"driver","kind":"video"}'
A, B, C, D, E = ("a" * 32, "b" * 32, "c" * 32, "d" * 32, "e" * 32)
# fmt: off
_ROWS = [
    (A, "avatar", "done", "1" * 32, _AVATAR, 1, 40, 40, '{"num_steps":40}', None, "w", None, "k", "f", 1.0, 2.0, 3.0),
    (B, "video", "queued", "1" * 32, _VIDEO, 0, 0, 0, "{}", None, None, None, None, None, 4.0, None, None),
    (C, "video", "running", "1" * 32, _VIDEO, 1, 3, 9, "{}", None, "w", 50.0, None, None, 3.5, 5.0, None),
    (D, "video", "failed", "1" * 32, _VIDEO, 3, 0, 0, "{}", "driver: no face", "w", None, None, None, 1.0, 2.0, 3.0),
    (E, "avatar", "cancelled", "2" * 32, _AVATAR, 0, 0, 0, "{}", None, None, None, None, None, 1.0, None, 3.0),
]
# fmt: on


def test_the_first_services_table_keeps_its_rows_and_works_on(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_FIRST)
        connection.executemany(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * 17)})", _ROWS)
    connection.close()
    database = Database(f"sqlite:///{path}")
    jobs = JobQueue(database, QueueRules(lease_s=10.0), lambda: 55.0)
    done = jobs.get(A)
    assert (done.state, done.request) == ("done", AvatarRequest(("picture-01.jpg",), "It is me."))
    assert (done.facts, done.done, done.created_at, done.finished_at) == ({"num_steps": 40}, 40, 1.0, 3.0)
    assert jobs.by_key("k") == done
    assert jobs.get(D).error == "driver: no face"
    assert [job.id for job in jobs.list()] == [B, C, E, D, A]
    # The lease of C is over: it is the older of two that wait.
    claimed = [jobs.claim("video", "new"), jobs.claim("video", "new")]
    assert [(job.id, job.attempts, job.request) for job in claimed if job] == [
        (C, 2, VideoRequest("driver")),
        (B, 1, VideoRequest("driver")),
    ]
    assert jobs.claim("video", "new") is None
    assert all(job is not None and jobs.finish(job, {"frames": 3}) for job in claimed)
    jobs.reserve("9" * 32, "1" * 32, "video", owner="somebody")
    assert jobs.submit("9" * 32, VideoRequest("driver.mp4"), idempotency_key="k", fingerprint="g")[1]
    assert Database(database.url).url == database.url, "a second start changes nothing"
    assert len(jobs.list()) == 6


def test_a_database_that_is_newer_is_refused_by_name(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ValueError, match=r"^database .*: made by a newer version of Sfumato"):
        Database(database.url)
