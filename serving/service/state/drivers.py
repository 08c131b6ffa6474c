"""Stored drivers: uploaded once, used by many videos."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from serving.service.errors import Conflict, NotFound
from serving.service.state.database import Database
from serving.service.state.tables import drivers as table


@dataclass(frozen=True)
class StoredDriver:
    """A driver in the store."""

    id: str
    owner: str
    name: str
    """The client's name of it."""
    file: str
    """File name in the store."""
    num_bytes: int
    created_at: float


class Drivers:
    """The stored drivers of a database."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def reserve(self, driver: StoredDriver) -> None:
        """Enter a driver whose file is about to be stored. Raises Conflict when its id is taken."""
        with self._database.writing() as connection:
            if connection.execute(select(table.c.id).where(table.c.id == driver.id)).first() is not None:
                raise Conflict("there is a driver with this id already")
            connection.execute(
                table.insert().values(
                    id=driver.id,
                    owner=driver.owner,
                    name=driver.name,
                    file=driver.file,
                    num_bytes=driver.num_bytes,
                    created_at=self._now(),
                )
            )

    def ready(self, driver_id: str) -> StoredDriver:
        """Note that the file is stored."""
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id == driver_id).values(ready=1))
        return self.get(driver_id)

    def get(self, driver_id: str) -> StoredDriver:
        """Return a stored driver. Raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == driver_id, table.c.ready == 1)).first()
        if row is None:
            raise NotFound("there is no such driver")
        return _driver(row)

    def list(self, owner: str | None = None) -> Sequence[StoredDriver]:
        """Return an owner's drivers, or all, the newest first."""
        query = select(table).where(table.c.ready == 1).order_by(table.c.created_at.desc())
        if owner is not None:
            query = query.where(table.c.owner == owner)
        with self._database.reading() as connection:
            return [_driver(row) for row in connection.execute(query)]

    def delete(self, driver_id: str) -> None:
        """Remove the row; call it when the file is gone."""
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.id == driver_id))

    def unfinished(self, older_s: float) -> Sequence[str]:
        """Return the ids of drivers whose file has not been stored for longer than `older_s`."""
        query = select(table.c.id).where(table.c.ready == 0, table.c.created_at < self._now() - older_s)
        with self._database.reading() as connection:
            return connection.scalars(query).all()


def _driver(row: Any) -> StoredDriver:
    return StoredDriver(row.id, row.owner, row.name, row.file, row.num_bytes, row.created_at)
