"""forgotten.jsonl at the root of a data set: the log of removed identities, which holds only hashes of their names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines import storage

LOG = "forgotten.jsonl"


@dataclass(frozen=True)
class Forgotten:
    """One line of the log."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    identity_sha256: str
    at: str
    """Time of the request: ISO 8601, UTC."""
    num_clips: int
    """Clips of the identity in the plan, kept or rejected."""
    num_frames: int
    """Frames of the identity in the shards."""
    shards: tuple[int, ...]
    """The shards that held any of its clips."""


_ADAPTER = TypeAdapter(Forgotten)


def hash_of(identity: str) -> str:
    """Return the hex sha256 of the identity's name in UTF-8."""
    return hashlib.sha256(identity.encode()).hexdigest()


def read_log(root: str) -> tuple[Forgotten, ...]:
    """Return the log of the data set at `root`, oldest entry first; empty if there is none.

    Raises:
        ValueError: a line is not a log entry.
    """
    url = storage.join(root, LOG)
    try:
        lines = storage.read_bytes(url).decode().splitlines()
        return tuple(_ADAPTER.validate_json(line) for line in lines if line.strip())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except UnicodeDecodeError as error:
        raise ValueError(f"{url} is not UTF-8: {error}") from error
    except ValidationError as error:
        raise ValueError(
            f"{url} has a line that is no record of a forgotten identity: {error.errors()[0]['msg']}"
        ) from error


def add_to_log(root: str, line: Forgotten) -> None:
    """Append one line. The file is replaced atomically: a reader sees it with or without the line."""
    lines = [json.dumps(asdict(entry), sort_keys=True) for entry in (*read_log(root), line)]
    storage.write_bytes(storage.join(root, LOG), ("\n".join(lines) + "\n").encode())
