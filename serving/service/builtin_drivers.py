"""Drivers that every service offers: the demonstration's clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines import assets
from serving.service.errors import NotFound

_PREFIX = "builtin:"


@dataclass(frozen=True)
class BuiltinDriver:
    """A clip of the catalogue of assets."""

    name: str
    asset: str
    title: str

    @property
    def id(self) -> str:
        return _PREFIX + self.name

    def path(self) -> Path:
        """Return the clip's path, fetched if it is not there yet."""
        return assets.fetch(self.asset)


BUILTIN_DRIVERS: Mapping[str, BuiltinDriver] = {
    driver.id: driver
    for driver in (
        BuiltinDriver("laugh", "clip_single_face", "A man laughs"),
        BuiltinDriver("turn", "clip_langer", "A woman turns her head and smiles"),
        BuiltinDriver("talk", "clip_carphone", "A man in a car talks"),
    )
}
"""By id."""


def builtin_driver(driver_id: str) -> BuiltinDriver | None:
    """Return a built-in driver by its id; None for an id of another form.

    Raises:
        NotFound: there is no built-in driver of this name.
    """
    if not driver_id.startswith(_PREFIX):
        return None
    if driver_id not in BUILTIN_DRIVERS:
        raise NotFound("there is no such driver")
    return BUILTIN_DRIVERS[driver_id]
