"""List the files below a folder lazily and in order, with only a part of them in memory."""

from __future__ import annotations

import base64
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_FEW_FOLDERS = 8  # up to so many subfolders are listed level by level; more are each listed in one recursive call
_FOLDERS_AHEAD = 8  # recursive listings at once: a list call is mostly waiting


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as described by its folder's listing."""

    url: str
    num_bytes: int
    checksum: str | None
    """`md5:<hex>` or `etag:<tag>` if the store's listing has one: equal only if the contents are equal."""


class Lister(Protocol):
    """The operations needed of a remote filesystem. Entries are fsspec's: details of files and folders, full paths."""

    def ls(self, folder: str) -> Sequence[Mapping[str, Any]]:
        """Return the files and folders in a folder. Raises FileNotFoundError."""

    def find(self, folder: str) -> Sequence[Mapping[str, Any]]:
        """Return all files below a folder."""


def walk_local(folder: str, prefix: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[FileInfo]:
    """Yield the files below a local folder. `prefix` replaces the folder in URLs; `above` holds the parent folders'
    (device, inode)."""
    status = Path(folder).stat()
    above |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        # A folder sorts as its name plus a slash, so that the files come in the order of their full paths.
        found = sorted((entry.name + "/" if entry.is_dir() else entry.name, entry) for entry in entries)
    for name, entry in found:
        try:
            status = entry.stat()
        except OSError:  # a broken or circular link, or removed since it was listed
            yield FileInfo(f"{prefix}/{entry.name}", 0, None)
            continue
        if not stat.S_ISDIR(status.st_mode):
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            yield FileInfo(f"{prefix}/{name}", size, None)
        elif (status.st_dev, status.st_ino) not in above:  # a link to a parent folder would recurse forever
            yield from walk_local(entry.path, f"{prefix}/{entry.name}", above)


def walk_remote(lister: Lister, folder: str, prefix: str) -> Iterator[FileInfo]:
    """Yield the files below a remote folder, with few list calls and only a few subfolders' files in memory."""
    with ThreadPoolExecutor(_FOLDERS_AHEAD, "listing") as pool:
        yield from _walk_remote(lister, folder, prefix, pool)


def _walk_remote(lister: Lister, folder: str, prefix: str, pool: ThreadPoolExecutor) -> Iterator[FileInfo]:
    try:
        entries = [entry for entry in lister.ls(folder) if entry["name"].rstrip("/") != folder]
    except FileNotFoundError:
        return
    folders = [entry for entry in entries if entry["type"] == "directory"]
    if len(folders) <= _FEW_FOLDERS:
        for entry in _in_order(entries):
            name = str(entry["name"]).rstrip("/")
            if entry["type"] == "directory":
                yield from _walk_remote(lister, name, prefix + name[len(folder) :], pool)
            elif not _is_marker(entry):
                yield _file_info(entry, folder, prefix)
        return

    def find(below: str) -> Sequence[FileInfo]:
        found = (_file_info(entry, folder, prefix) for entry in lister.find(below) if not _is_marker(entry))
        return sorted(found, key=lambda file: file.url)

    ahead: deque[Future[Sequence[FileInfo]]] = deque()
    for entry in _in_order(entries):
        if entry["type"] == "directory":
            ahead.append(pool.submit(find, str(entry["name"]).rstrip("/")))
        elif not _is_marker(entry):
            ahead.append(_done([_file_info(entry, folder, prefix)]))
        if len(ahead) > _FOLDERS_AHEAD:
            yield from ahead.popleft().result()
    for future in ahead:
        yield from future.result()


def _in_order(entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: entry["name"].rstrip("/") + "/" * (entry["type"] == "directory"))


def _is_marker(entry: Mapping[str, Any]) -> bool:
    """Whether the entry is a placeholder for an empty folder, as the web consoles of stores create them."""
    return bool(entry["type"] == "directory" or (not entry["size"] and entry["name"].endswith("/")))


def _done(files: Sequence[FileInfo]) -> Future[Sequence[FileInfo]]:
    future: Future[Sequence[FileInfo]] = Future()
    future.set_result(files)
    return future


def _file_info(entry: Mapping[str, Any], folder: str, prefix: str) -> FileInfo:
    return FileInfo(prefix + str(entry["name"])[len(folder) :], int(entry["size"] or 0), checksum_of(entry))


def checksum_of(entry: Mapping[str, Any]) -> str | None:
    """Return the checksum of a file by fsspec's details of it, see `FileInfo`; None if the store tells none."""
    if entry.get("md5Hash"):
        return "md5:" + base64.b64decode(entry["md5Hash"]).hex()
    if entry.get("ETag"):
        return "etag:" + str(entry["ETag"]).strip('"')
    return None
