"""The tables of the service's database. `migrations` creates and changes them; times are seconds since the epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("owner", String, nullable=False, server_default=""),
    Column("avatar_id", String, nullable=False),
    Column("request", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("stage", String, nullable=False, server_default=""),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("total", Integer, nullable=False, server_default="0"),
    Column("facts", Text, nullable=False, server_default="{}"),
    Column("error", Text),
    Column("worker", String),
    Column("lease_until", Double),
    Column("idempotency_key", String),
    Column("fingerprint", String),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("has_uploads", Integer, nullable=False, server_default="1"),
    Column("expires_at", Double),
    Column("webhook", String),
    Column("webhook_due", Double),
    Column("webhook_attempts", Integer, nullable=False, server_default="0"),
    Index("jobs_by_key", "owner", "idempotency_key", unique=True),
    Index("jobs_by_state", "state", "kind", "created_at"),
    Index("jobs_by_avatar", "avatar_id", "kind"),
    Index("jobs_by_expiry", "expires_at"),
    Index("jobs_by_webhook", "webhook_due"),
)

drivers = Table(
    "drivers",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False, server_default=""),
    Column("name", String, nullable=False),
    Column("file", String, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("ready", Integer, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
    Index("drivers_by_owner", "owner", "created_at"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("label", String, primary_key=True),
    Column("value", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("scope", String, nullable=False),
    Column("max_waiting", Integer),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("owner", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Index("audit_by_time", "time"),
)
