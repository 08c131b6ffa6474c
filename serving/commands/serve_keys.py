"""`sfumato serve keys`: make, list and revoke the service's API keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import tyro
from rich.table import Table

from pipelines import cli, storage
from pipelines.argument_parser import UsageError
from serving.service.config import ServiceConfig
from serving.service.errors import NotFound
from serving.service.state.database import Database
from serving.service.state.keys import ApiKey, ApiKeys, Scope


@dataclass(frozen=True)
class Options:
    """Make, list or revoke API keys of a service, which may run meanwhile. Keys are kept as sha256: a new one is shown
    once."""

    action: tyro.conf.Positional[Literal["add", "list", "revoke"]]
    """What to do."""
    name: tyro.conf.Positional[str] = ""
    """For add: a name for people, such as that of the program that uses the key. For revoke: the key's id."""
    scope: Scope = "write"
    """What a new key may do: read (see its own jobs), write (also make and delete them), admin (those of all keys)."""
    max_waiting: int | None = None
    """Limit of a new key's waiting jobs; default: the queue's limit alone."""
    data_dir: str = "sfumato-data"
    """The service's data folder, whose database holds the keys."""
    database: str | None = None
    """URL of the service's database; default: the variable SFUMATO_DATABASE, else a file in the data folder."""

    def __post_init__(self) -> None:
        if (self.action == "list") == bool(self.name):
            wanted = {"add": "add NAME", "list": "list", "revoke": "revoke ID"}[self.action]
            raise UsageError(f"usage: sfumato serve keys {wanted}")


def run(options: Options) -> cli.CommandResult:
    """Carry out the action.

    Raises:
        ValueError: a name or limit that is not allowed, no such key, or a database that cannot be opened.
    """
    started = time.monotonic()
    url = ServiceConfig("", storage.absolute(options.data_dir), database=options.database).database_url
    keys = ApiKeys(Database(url))
    made: tuple[cli.Artefact, ...] = ()
    notes: tuple[str, ...] = ()
    match options.action:
        case "add":
            key, secret = keys.add(options.name, options.scope, options.max_waiting)
            made = (cli.Artefact(f"API key {key.id}, shown this once", secret),)
        case "revoke":
            try:
                notes = (f"API key {keys.revoke(options.name).id} opens nothing any more",)
            except NotFound as error:
                raise ValueError(error.message) from error
        case "list":
            cli.console().print(_table(keys.list()))
    valid = sum(key.revoked_at is None for key in keys.list())
    return cli.CommandResult(made, {"valid keys": valid}, time.monotonic() - started, notes=notes)


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table("id", "name", "scope", "waiting jobs", "made", "revoked")
    for key in keys:
        limit = "" if key.max_waiting is None else str(key.max_waiting)
        table.add_row(key.id, key.name, key.scope, limit, _day(key.created_at), _day(key.revoked_at))
    return table


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
