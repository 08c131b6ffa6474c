"""`sfumato assets list|fetch|verify`: manage the pretrained files and demo clips."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.table import Table

from pipelines import assets
from pipelines.assets import Asset, AssetError
from pipelines.assets.catalogue import ASSETS
from pipelines.cli import Artefact, CommandResult, console


@dataclass(frozen=True)
class Options:
    """List, fetch or verify pretrained files and demo clips. Each file is pinned by its sha256."""

    action: tyro.conf.Positional[Literal["list", "fetch", "verify"]]
    """`list` shows the catalogue, `fetch` downloads files into the cache, `verify` checks cached files."""
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names from the catalogue; by default all. `fetch` skips files that only their authors' site offers unless they
    are named."""


def run(options: Options) -> CommandResult:
    """Run the action. Raises AssetError for an unknown name, or a file that cannot be fetched from any source."""
    begin = time.monotonic()
    chosen = [assets.find(name) for name in dict.fromkeys(options.names)] or _all_for(options.action)
    if options.action == "list":
        return _list(chosen, begin)
    if options.action == "verify":
        return _verify(chosen, begin)
    return _fetch(chosen, begin)


def _all_for(action: str) -> list[Asset]:
    """Return the whole catalogue; for `fetch`, without the large files that only one site offers and few users need."""
    return [asset for asset in ASSETS.values() if action != "fetch" or asset.in_bulk]


def _list(chosen: list[Asset], begin: float) -> CommandResult:
    table = Table("name", "bytes", "licence", "from", "cached")
    table.columns[1].justify = "right"
    for asset in chosen:
        source = "this package" if asset.vendored else str(asset.package or asset.url)
        table.add_row(
            asset.name, f"{asset.num_bytes:,}", asset.licence, source, "yes" if assets.is_cached(asset) else "no"
        )
    console().print(table)
    cached = sum(assets.is_cached(asset) for asset in chosen)
    return CommandResult((), {"assets": len(chosen), "cached": cached}, time.monotonic() - begin)


def _fetch(chosen: list[Asset], begin: float) -> CommandResult:
    before = {asset.name for asset in chosen if not assets.verify(asset)}
    try:
        paths = assets.fetch_many([asset.name for asset in chosen])
    except AssetError as error:
        there = [asset for asset in chosen if not assets.verify(asset)]
        if len(chosen) == 1 or not there:
            raise
        made = tuple(Artefact(asset.name, str(assets.path_of(asset))) for asset in there)
        counts = {"fetched": len(there) - len(before), "missing": len(chosen) - len(there)}
        return CommandResult(made, counts, time.monotonic() - begin, ok=False, notes=(str(error),))
    made = tuple(Artefact(name, str(path)) for name, path in paths.items())
    counts = {"fetched": len(chosen) - len(before), "already there": len(before)}
    return CommandResult(made, counts, time.monotonic() - begin)


def _verify(chosen: list[Asset], begin: float) -> CommandResult:
    wrong = {asset.name: reason for asset in chosen if (reason := assets.verify(asset))}
    damaged = {name: reason for name, reason in wrong.items() if reason != assets.NOT_FETCHED}
    counts = {"good": len(chosen) - len(wrong), "damaged": len(damaged), "not fetched": len(wrong) - len(damaged)}
    return CommandResult(
        tuple(Artefact(asset.name, str(assets.path_of(asset))) for asset in chosen if asset.name not in wrong),
        counts,
        time.monotonic() - begin,
        ok=not damaged and len(wrong) < len(chosen),
        notes=tuple(f"{name}: {reason}" for name, reason in damaged.items()),
    )
