"""Counters that only grow, for the metrics: they outlive the jobs that they count, and every process."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from serving.service.state.database import Database
from serving.service.state.tables import counters as table


def count(connection: Connection, amounts: Mapping[tuple[str, str], float]) -> None:
    """Add to counters, by (name, label), in a transaction that is serialized (`Database.serialize`)."""
    for (name, label), amount in amounts.items():
        here = (table.c.name == name, table.c.label == label)
        changed = connection.execute(update(table).where(*here).values(value=table.c.value + amount))
        if not changed.rowcount:
            connection.execute(table.insert().values(name=name, label=label, value=amount))


def read_counters(database: Database) -> Mapping[tuple[str, str], float]:
    """Return all counters by (name, label)."""
    with database.reading() as connection:
        return {(row.name, row.label): row.value for row in connection.execute(select(table))}
