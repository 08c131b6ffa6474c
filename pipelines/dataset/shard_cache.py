"""Local copies of remote shards for readers that read them in windows: few long requests, not many short ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipelines import storage
from pipelines.dataset.manifest import ShardEntry

_DOWNLOADS = 2  # at once: a single one idles between blocks


@dataclass(frozen=True)
class _Copy:
    path: Path
    lock: int
    """Descriptor of the copy's lock file with a shared lock; the copy is kept while any process holds one."""


class ShardCache:
    """Copies of the requested shards, and no others: fetched in the background, verified by sha256.

    Processes of a machine may share the folder: a shard is fetched once, and removed by its last user. Files left by a
    killed process are removed by the next instance. `shards` are all shards that may be requested, by URL.
    """

    def __init__(self, folder: Path, shards: Mapping[str, ShardEntry]) -> None:
        self.folder, self.shards = folder, shards
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        self._pool = ThreadPoolExecutor(_DOWNLOADS, "shards")
        self._copies: dict[str, Future[_Copy]] = {}

    def request(self, urls: Sequence[str]) -> None:
        """Start to fetch these shards, in this order, and release all others. Does not wait."""
        for url in self._copies.keys() - {*urls}:
            copy = self._copies.pop(url)
            copy.cancel()
            copy.add_done_callback(_release)
        for url in urls:
            if url not in self._copies:
                self._copies[url] = self._pool.submit(self._fetch, url)

    def path(self, url: str) -> str:
        """Wait for the copy of a requested shard and return its path; return `url` itself for any other shard.

        Raises:
            FileNotFoundError: the shard is missing.
            ValueError: the shard does not have the manifest's sha256.
            OSError: a storage request failed, or the disk is full.
        """
        copy = self._copies.get(url)
        return url if copy is None else str(copy.result().path)

    def close(self) -> None:
        """Release all copies."""
        self.request([])
        self._pool.shutdown(cancel_futures=True)

    def _fetch(self, url: str) -> _Copy:
        entry = self.shards[url]
        path = self.folder / f"{entry.sha256}.parquet"
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if path.exists():
                    return _Copy(path, lock)
                # Between the two locks another process may fetch the shard, or release and remove it.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    _download(url, entry, path)
        except BaseException:
            os.close(lock)
            raise


def _download(url: str, entry: ShardEntry, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        sha256 = storage.download(url, partial, entry.num_bytes)
        if sha256 != entry.sha256:
            raise ValueError(f"{url} is damaged: its sha256 is {sha256}, the manifest says {entry.sha256}")
        partial.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(error.errno, f"no space for a copy of {url}", str(path.parent)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _release(copy: Future[_Copy]) -> None:
    with contextlib.suppress(CancelledError, OSError, ValueError):
        held = copy.result()
        _remove_unless_held(held.path, held.lock)


def _remove_unless_held(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    for path in [*folder.glob("*.parquet"), *folder.glob("*.partial")]:
        _remove_unless_held(path, os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600))
