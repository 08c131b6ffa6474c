"""forgotten.jsonl: who was taken out of a data set, by hash of the name: nobody comes back with the next run."""

from __future__ import annotations

import hashlib
import json

from pipelines import storage

FORGOTTEN = "forgotten.jsonl"


def identity_digest(identity: str) -> str:
    """Hex sha256 of an identity's name in UTF-8."""
    return hashlib.sha256(identity.encode()).hexdigest()


def read_forgotten(root: str) -> frozenset[str]:
    """Digests of the identities that were taken out of the data set at `root`; empty where none was.

    Raises:
        ValueError: the file is there and broken: guessing would bring somebody back.
    """
    url = storage.join(root, FORGOTTEN)
    if not storage.exists(url):
        return frozenset()
    try:
        return frozenset(json.loads(line)["identity_sha256"] for line in storage.read_bytes(url).splitlines() if line)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{url} is broken: {error}") from error
