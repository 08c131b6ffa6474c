"""Owners, expiry and crashes of jobs, keys unique by owner; drivers, API keys and the audit log."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"
branch_labels = depends_on = None

_KEPT = (
    "id, kind, state, avatar_id, request, attempts, done, total, facts, error, worker, lease_until, idempotency_key,"
    " fingerprint, created_at, started_at, finished_at"
)


def upgrade() -> None:
    # SQLite cannot drop the constraint that idempotency keys are unique in the whole table: the table is made anew.
    for index in ("jobs_by_state", "jobs_by_avatar"):
        op.drop_index(index, "jobs", if_exists=True)
    op.rename_table("jobs", "jobs_before")
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False, server_default=""),
        sa.Column("avatar_id", sa.String, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lost", sa.Integer, nullable=False, server_default="0"),
        sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("stage", sa.String, nullable=False, server_default=""),
        sa.Column("done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("total", sa.Integer, nullable=False, server_default="0"),
        sa.Column("facts", sa.Text, nullable=False, server_default="{}"),
        sa.Column("error", sa.Text),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", sa.Double),
        sa.Column("idempotency_key", sa.String),
        sa.Column("fingerprint", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("has_uploads", sa.Integer, nullable=False, server_default="1"),
        sa.Column("expires_at", sa.Double),
        sa.Column("webhook", sa.String),
        sa.Column("webhook_due", sa.Double),
        sa.Column("webhook_attempts", sa.Integer, nullable=False, server_default="0"),
    )
    op.execute(f"INSERT INTO jobs ({_KEPT}) SELECT {_KEPT} FROM jobs_before")
    op.drop_table("jobs_before")
    op.create_index("jobs_by_key", "jobs", ["owner", "idempotency_key"], unique=True)
    op.create_index("jobs_by_state", "jobs", ["state", "kind", "created_at"])
    op.create_index("jobs_by_avatar", "jobs", ["avatar_id", "kind"])
    op.create_index("jobs_by_expiry", "jobs", ["expires_at"])
    op.create_index("jobs_by_webhook", "jobs", ["webhook_due"])
    op.create_table(
        "drivers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False, server_default=""),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("file", sa.String, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("ready", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("drivers_by_owner", "drivers", ["owner", "created_at"])
    op.create_table(
        "counters",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("label", sa.String, primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("max_waiting", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
    )
    op.create_index("audit_by_time", "audit", ["time"])
