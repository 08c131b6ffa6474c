"""Open, list, read and write any path or URL that fsspec knows: the only home of fsspec.

A path without a scheme is local. Every write is atomic: a reader sees the old file, the new one, or none.
"""

from __future__ import annotations

import base64
import contextlib
import os
import posixpath
import stat
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

_FEW_FOLDERS = 8  # of these each is listed by itself; more of them are each found whole
_FOLDERS_AHEAD = 8  # so many are listed at once: a list call is mostly waiting


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as its folder's listing knows it."""

    url: str
    num_bytes: int
    checksum: str | None
    """`md5:<hex>` or `etag:<tag>` where the store's listing gives one: equal only if the contents are equal."""


def _resolve(url: str) -> tuple[Any, str]:
    # Resolved per call on purpose: fsspec caches instances per process and thread, and a gcsfs instance carried over
    # a fork hangs.
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, str(path)


def is_local(url: str) -> bool:
    """Whether `url` is a plain path or a file:// URL."""
    return isinstance(_resolve(url)[0], LocalFileSystem)


def local_path(url: str) -> Path:
    """The local path behind `url`. Raises ValueError for anything that is not local."""
    filesystem, path = _resolve(url)
    if not isinstance(filesystem, LocalFileSystem):
        raise ValueError(f"{url} is not a local path")
    return Path(path)


def absolute(url: str) -> str:
    """`url` with a local path made absolute: for those who run in other folders, such as workers."""
    return str(local_path(url).absolute()) if is_local(url) else url


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """The filesystem and path behind `url` as pyarrow knows them."""
    from pyarrow import fs

    filesystem, path = _resolve(url)
    return fs.LocalFileSystem() if is_local(url) else fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def join(root: str, *parts: str) -> str:
    """`root` and `parts` joined by single slashes; `root` may be a path or a URL."""
    return posixpath.join(root.rstrip("/") or "/", *parts) if parts else root


def open(url: str, mode: str = "rb") -> Any:  # read as storage.open
    """A file object for reading; writing goes through `atomic_write`. Raises FileNotFoundError."""
    if set(mode) - set("rbt"):
        raise ValueError(f"storage.open only reads, got mode {mode!r}; write with storage.atomic_write")
    filesystem, path = _resolve(url)
    return filesystem.open(path, mode)


def exists(url: str) -> bool:
    """Whether a file or folder exists at `url`."""
    filesystem, path = _resolve(url)
    return bool(filesystem.exists(path))


def is_folder(url: str) -> bool:
    """Whether `url` is an existing folder (or a prefix with files under it)."""
    filesystem, path = _resolve(url)
    return bool(filesystem.isdir(path))


def size(url: str) -> int:
    """Bytes of the file at `url`. Raises FileNotFoundError."""
    filesystem, path = _resolve(url)
    return int(filesystem.size(path))


def list(url: str, *, recursive: bool = True) -> Sequence[str]:  # read as storage.list
    """Files under the folder `url`, sorted; each begins with `url` as it was spelled. Missing folder: none."""
    filesystem, path = _resolve(url)
    if not filesystem.exists(path):
        return []
    root = path.rstrip("/")
    found = [str(name) for name in filesystem.find(path, maxdepth=None if recursive else 1)]
    return sorted(url.rstrip("/") + name[len(root) :] for name in found)


def walk(url: str) -> Iterator[FileInfo]:
    """Files below the folder `url`, sorted, one by one; each URL begins with `url` as it was spelled.

    Memory holds one folder (local) or a few subtrees (remote), not the whole. Links to files are followed, links to
    folders are not, so that nothing loops; sockets, pipes and devices are skipped. Missing folder: none.

    Raises:
        OSError: a folder cannot be listed.
    """
    filesystem, path = _resolve(url)
    prefix = url.rstrip("/")
    if isinstance(filesystem, LocalFileSystem):
        if Path(path).is_dir():
            yield from _walk_local(path, prefix)
        return
    # An instance without the listing cache, which would keep a dictionary of every file for the life of the process.
    filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    with ThreadPoolExecutor(_FOLDERS_AHEAD, "listing") as pool:
        yield from _walk_remote(filesystem, str(path).rstrip("/"), prefix, pool)


def _walk_local(folder: str, prefix: str) -> Iterator[FileInfo]:
    with os.scandir(folder) as entries:
        # A folder sorts as its name and a slash: then the files come in the order of their whole paths.
        found = sorted(
            (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry) for entry in entries
        )
    for name, entry in found:
        if name.endswith("/"):
            yield from _walk_local(entry.path, f"{prefix}/{entry.name}")
            continue
        try:
            status = entry.stat()
        except OSError:
            continue  # a link to nothing, or to itself; or gone since it was listed
        if stat.S_ISREG(status.st_mode):
            yield FileInfo(f"{prefix}/{name}", status.st_size, None)


def _walk_remote(filesystem: Any, folder: str, prefix: str, pool: ThreadPoolExecutor) -> Iterator[FileInfo]:
    try:
        entries = [entry for entry in filesystem.ls(folder, detail=True) if entry["name"].rstrip("/") != folder]
    except FileNotFoundError:
        return
    folders = [entry for entry in entries if entry["type"] == "directory"]
    if len(folders) <= _FEW_FOLDERS:
        for entry in _in_order(entries):
            name = str(entry["name"]).rstrip("/")
            if entry["type"] == "directory":
                yield from _walk_remote(filesystem, name, prefix + name[len(folder) :], pool)
            elif not _is_marker(entry):
                yield _file_info(entry, folder, prefix)
        return

    def find(below: str) -> Sequence[FileInfo]:
        entries = filesystem.find(below, detail=True).values()
        found = (_file_info(entry, folder, prefix) for entry in entries if not _is_marker(entry))
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
    """Whether it only stands for an empty folder, as consoles of stores make them."""
    return bool(entry["type"] == "directory" or (not entry["size"] and entry["name"].endswith("/")))


def _done(files: Sequence[FileInfo]) -> Future[Sequence[FileInfo]]:
    future: Future[Sequence[FileInfo]] = Future()
    future.set_result(files)
    return future


def _file_info(entry: Mapping[str, Any], folder: str, prefix: str) -> FileInfo:
    checksum = None
    if entry.get("md5Hash"):
        checksum = "md5:" + base64.b64decode(entry["md5Hash"]).hex()
    elif entry.get("ETag"):
        checksum = "etag:" + str(entry["ETag"]).strip('"')
    return FileInfo(prefix + str(entry["name"])[len(folder) :], int(entry["size"] or 0), checksum)


def read_bytes(url: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    filesystem, path = _resolve(url)
    return bytes(filesystem.cat_file(path))


def write_bytes(url: str, data: bytes) -> None:
    """Write a whole small file atomically."""
    with atomic_write(url) as sink:
        sink.write(data)


@contextlib.contextmanager
def atomic_write(url: str) -> Iterator[IO[bytes]]:
    """A binary file that appears at `url`, complete, when the block ends without an error, and not at all otherwise.

    Local: a temporary file in the same folder, fsync, rename. Elsewhere: spooled locally and uploaded in one piece,
    because closing an fsspec file commits it even after an error.
    """
    filesystem, path = _resolve(url)
    if isinstance(filesystem, LocalFileSystem):
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            Path(name).chmod(0o644)  # mkstemp's 0600 would hide the file from the user's colleagues
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="sfumato-") as folder:
        spool = Path(folder) / "spool"
        with spool.open("wb") as sink:
            yield sink
        parent = posixpath.dirname(path)
        with contextlib.suppress(FileExistsError, NotImplementedError):
            filesystem.makedirs(parent, exist_ok=True)
        filesystem.put_file(str(spool), path)


def remove(url: str, *, recursive: bool = False) -> None:
    """Remove a file, or with `recursive` a folder. A missing one is no error."""
    filesystem, path = _resolve(url)
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm(path, recursive=recursive)


def ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> Sequence[bytes]:
    """Byte ranges of files, in the order asked for. Raises OSError naming the file when it ends too early."""
    if not urls:
        return []
    filesystem, _ = _resolve(urls[0])
    if isinstance(filesystem, LocalFileSystem):
        parts = _local_ranges(urls, starts, lengths)
    else:
        paths = [_resolve(url)[1] for url in urls]
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        parts = [bytes(part) for part in filesystem.cat_ranges(paths, [*starts], ends, on_error="raise")]
    for url, start, length, part in zip(urls, starts, lengths, parts, strict=True):
        if len(part) != length:
            raise OSError(f"{url} ends early: {len(part)} of {length} bytes at offset {start}")
    return parts


def _local_ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> Sequence[bytes]:
    # fsspec's own cat_ranges opens the file once per range; an episode has up to 66 ranges of one file.
    handles: dict[str, int] = {}
    try:
        for url in urls:
            if url not in handles:
                handles[url] = os.open(local_path(url), os.O_RDONLY)
        return [os.pread(handles[url], length, start) for url, start, length in zip(urls, starts, lengths, strict=True)]
    finally:
        for handle in handles.values():
            os.close(handle)


@contextlib.contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """A local path with the file's contents for the time of the block: the file itself, or a download of it."""
    filesystem, path = _resolve(url)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="sfumato-") as folder:
        target = Path(folder) / f"download{Path(path).suffix}"
        filesystem.get_file(path, str(target))
        yield target
