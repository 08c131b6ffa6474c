"""Open, list, read, copy and remove files at any path or URL that fsspec knows."""

from __future__ import annotations

import contextlib
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.storage.atomic import PARTIAL_PREFIX
from pipelines.storage.listing import FileInfo, checksum_of, walk_local, walk_remote
from pipelines.storage.scratch import ScratchFolder
from pipelines.storage.urls import is_local, is_local_filesystem, local_path, name, request, resolve


def open(url: str, mode: str = "rb") -> Any:  # read as storage.open
    """Return a file object for reading; `atomic_write` writes. Raises FileNotFoundError."""
    if set(mode) - set("rbt"):
        raise ValueError(f"storage.open only reads, got mode {mode!r}; write with storage.atomic_write")
    filesystem, path = resolve(url)
    return request(filesystem, url, lambda: filesystem.open(path, mode))


def exists(url: str) -> bool:
    """Whether a file or folder exists at `url`."""
    filesystem, path = resolve(url)
    return bool(request(filesystem, url, lambda: filesystem.exists(path)))


def is_folder(url: str) -> bool:
    """Whether `url` is an existing folder (or a prefix with files under it). At an http(s) URL, folders end with "/":
    to look for links in what may be a file, it would be downloaded."""
    filesystem, path = resolve(url)
    if url.lower().startswith(("http://", "https://")) and not url.endswith("/"):
        return False
    return bool(request(filesystem, url, lambda: filesystem.isdir(path)))


def check_file(url: str) -> None:
    """Check that `url` is a file that can be read to its end.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is a folder, or no regular file: to read a FIFO or a device may never end.
    """
    if not exists(url):
        raise FileNotFoundError(f"{url} does not exist")
    if is_folder(url):
        raise ValueError(f"{url} is a folder, not a file")
    if is_local(url) and not local_path(url).is_file():
        raise ValueError(f"{url} is no regular file")


def size(url: str) -> int:
    """Return the size of the file at `url` in bytes. Raises FileNotFoundError."""
    filesystem, path = resolve(url)
    return int(request(filesystem, url, lambda: filesystem.size(path)))


@dataclass(frozen=True)
class Found:
    """What is at a path or URL."""

    is_folder: bool
    num_bytes: int | None
    """Size of a file; None if the store does not tell."""
    checksum: str | None = None
    """Of a file, see `FileInfo.checksum`."""


def look_up(url: str) -> Found | None:
    """Return what is at `url`, in one request; None if nothing is, or nothing of such a name can be."""
    filesystem, path = resolve(url)
    try:
        if is_local_filesystem(filesystem):
            status = Path(path).stat()
            return Found(stat.S_ISDIR(status.st_mode), status.st_size)
        info = request(filesystem, url, lambda: filesystem.info(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        if is_local_filesystem(filesystem):  # too long a name, a loop of links, a zero byte
            return None
        raise
    # A web server's ETag may be made of time and size: equal for files that are not.
    checksum = None if url.lower().startswith("http") else checksum_of(info)
    num_bytes = None if info.get("size") is None else int(info["size"])
    return Found(info["type"] == "directory", num_bytes, checksum)


def list(url: str, *, recursive: bool = True) -> Sequence[str]:  # read as storage.list
    """Return the files under the folder `url`, sorted; each begins with `url` as given. Missing folder: none."""
    # Of what other machines write at this moment, a cached listing would know nothing.
    filesystem, path = resolve(url) if is_local(url) else resolve(url, use_listings_cache=False)
    if not request(filesystem, url, lambda: filesystem.exists(path)):
        return []
    root = path.rstrip("/")
    maxdepth = None if recursive else 1
    found = [str(name) for name in request(filesystem, url, lambda: filesystem.find(path, maxdepth=maxdepth))]
    return sorted(url.rstrip("/") + name[len(root) :] for name in found)


def walk(url: str) -> Iterator[FileInfo]:
    """Yield the files below the folder `url`, sorted; each URL begins with `url` as given. Missing folder: none.

    Memory holds one folder (local) or a few subtrees (remote), not the whole listing. Links are followed, except to a
    folder above them. A pipe, a device or a broken link is listed with 0 bytes; the caller checks before reading it.

    Raises:
        OSError: a folder cannot be listed.
    """
    filesystem, path = resolve(url)
    prefix = url.rstrip("/")
    if is_local_filesystem(filesystem):
        if Path(path).is_dir():
            yield from walk_local(path, prefix)
    else:
        yield from walk_remote(_Lister(url), path.rstrip("/"), prefix)


class _Lister:
    def __init__(self, url: str) -> None:
        # The listing cache would keep a dictionary of every file for the life of the process.
        self.url, self.filesystem = url, resolve(url, use_listings_cache=False)[0]

    def ls(self, folder: str) -> Sequence[Any]:
        return [*request(self.filesystem, self.url, lambda: self.filesystem.ls(folder, detail=True))]

    def find(self, folder: str) -> Sequence[Any]:
        return [*request(self.filesystem, self.url, lambda: self.filesystem.find(folder, detail=True)).values()]


def read_bytes(url: str) -> bytes:
    """Return the whole file. Raises FileNotFoundError."""
    filesystem, path = resolve(url)
    return bytes(request(filesystem, url, lambda: filesystem.cat_file(path)))


@contextlib.contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """Yield a local path with the file's contents: the file itself, or a download that is removed afterwards."""
    filesystem, path = resolve(url)
    if is_local_filesystem(filesystem):
        yield Path(path)
        return
    with ScratchFolder() as folder:
        target = Path(folder) / f"download{Path(name(url)).suffix}"
        request(filesystem, url, lambda: filesystem.get_file(path, str(target)))
        yield target


def remove(url: str, *, recursive: bool = False) -> None:
    """Remove a file, or with `recursive` a folder. A missing one is not an error."""
    filesystem, path = resolve(url)
    with contextlib.suppress(FileNotFoundError):
        request(filesystem, url, lambda: filesystem.rm(path, recursive=recursive))


def remove_partial_files(root: str) -> None:
    """Remove the partial files of killed writers below `root`: they are useless and may hold anyone's frames."""
    for url in list(root):
        if posixpath.basename(url).startswith(PARTIAL_PREFIX):
            remove(url)
