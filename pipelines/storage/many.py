"""Read many small files, many at once where they lie in a store: there a request is mostly waiting."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pipelines.storage.files import read_bytes
from pipelines.storage.urls import is_local

_READS = 64
_AHEAD = 1024  # files whose contents are in memory at a time


def read_each(urls: Iterable[str]) -> Iterator[bytes | None]:
    """Yield the contents of the files, in order; None for one that does not exist.

    Raises:
        OSError: a file cannot be read.
    """
    waiting = iter(urls)
    with ThreadPoolExecutor(_READS) as pool:  # it starts its threads when they are needed
        while batch := [*itertools.islice(waiting, _AHEAD)]:
            yield from map(_read, batch) if is_local(batch[0]) else pool.map(_read, batch)


def _read(url: str) -> bytes | None:
    try:
        return read_bytes(url)
    except FileNotFoundError:
        return None
