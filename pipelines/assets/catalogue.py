"""The catalogue of pretrained files and demo clips, read from data/catalogue.toml: source, size, sha256, licence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.assets.download import PackageSource

_FILE = Path(__file__).parent / "data" / "catalogue.toml"


@dataclass(frozen=True)
class Asset:
    """One file: its name in the cache and on a mirror, its sha256, and its sources."""

    name: str
    file: str
    num_bytes: int
    sha256: str
    licence: str
    package: PackageSource | None = None
    """The registry package that contains the file."""
    member: str = ""
    """Path of the file inside the package."""
    url: str | None = None
    vendored: bool = False
    """Whether the file is part of this package."""

    @property
    def in_bulk(self) -> bool:
        """Whether `sfumato assets fetch` without names fetches it: not the large files that only one site offers."""
        return self.package is not None or not self.url


def read_catalogue(text: str) -> Mapping[str, Asset]:
    """Return the assets of a catalogue in TOML, by name, in the file's order."""
    catalogue = tomllib.loads(text)
    packages = {name: PackageSource(name=name, **values) for name, values in catalogue["packages"].items()}
    assets = {}
    for name, values in catalogue["assets"].items():
        package = values.pop("package", None)
        assets[name] = Asset(name=name, package=packages[package] if package else None, **values)
    return assets


ASSETS: Mapping[str, Asset] = read_catalogue(_FILE.read_text())
