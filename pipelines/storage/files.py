"""Open, list, read and write any path or URL that fsspec knows: the only home of fsspec.

A path without a scheme is local. Every write is atomic: a reader sees the old file, the new one, or none.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipelines import storage
from pipelines.storage import files
from pipelines.storage.byte_ranges import Span, merge_ranges
from pipelines.storage.listing import FileInfo as FileInfo
from pipelines.storage.listing import walk_local, walk_remote
from pipelines.storage.retries import retrying

_RETRY_BY_THEMSELVES = {"gs", "gcs", "s3", "s3a", "abfs", "az"}
_BLOCK_BYTES = 16 * 2**20

_T = TypeVar("_T")


def _resolve(url: str) -> tuple[Any, str]:
    # Resolved per call on purpose: fsspec caches instances per process and thread, and a gcsfs instance carried over
    # a fork hangs.
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, str(path)


def _ask(filesystem: Any, url: str, action: Callable[[], _T]) -> _T:
    """What `action` gets from a store, with patience where the store is busy. Errors name `url`."""
    if isinstance(filesystem, LocalFileSystem):
        return action()
    log = logging.getLogger("gcsfs")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # else the traceback of what it gives up on goes to standard error
    names = {filesystem.protocol} if isinstance(filesystem.protocol, str) else {*filesystem.protocol}
    return retrying(url, action, retries_itself=bool(names & _RETRY_BY_THEMSELVES))


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


def parent(url: str) -> str:
    """The folder that a file lies in; `.` for a bare name."""
    return url.rstrip("/").rpartition("/")[0] or ("/" if url.startswith("/") else ".")


def open(url: str, mode: str = "rb") -> Any:  # read as storage.open
    """A file object for reading; writing goes through `atomic_write`. Raises FileNotFoundError."""
    if set(mode) - set("rbt"):
        raise ValueError(f"storage.open only reads, got mode {mode!r}; write with storage.atomic_write")
    filesystem, path = _resolve(url)
    return _ask(filesystem, url, lambda: filesystem.open(path, mode))


def exists(url: str) -> bool:
    """Whether a file or folder exists at `url`."""
    filesystem, path = _resolve(url)
    return bool(_ask(filesystem, url, lambda: filesystem.exists(path)))


def is_folder(url: str) -> bool:
    """Whether `url` is an existing folder (or a prefix with files under it)."""
    filesystem, path = _resolve(url)
    return bool(_ask(filesystem, url, lambda: filesystem.isdir(path)))


def size(url: str) -> int:
    """Bytes of the file at `url`. Raises FileNotFoundError."""
    filesystem, path = _resolve(url)
    return int(_ask(filesystem, url, lambda: filesystem.size(path)))


def list(url: str, *, recursive: bool = True) -> Sequence[str]:  # read as storage.list
    """Files under the folder `url`, sorted; each begins with `url` as it was spelled. Missing folder: none."""
    filesystem, path = _resolve(url)
    if not exists(url):
        return []
    root = path.rstrip("/")
    maxdepth = None if recursive else 1
    found = [str(name) for name in _ask(filesystem, url, lambda: filesystem.find(path, maxdepth=maxdepth))]
    return sorted(url.rstrip("/") + name[len(root) :] for name in found)


def walk(url: str) -> Iterator[FileInfo]:
    """Files below the folder `url`, sorted, one by one; each URL begins with `url` as it was spelled.

    Memory holds one folder (local) or a few subtrees (remote), not the whole. Links are followed, but for those to a
    folder around them. What is no regular file (a pipe, a device, a link to nothing) is listed with 0 bytes: whoever
    wants to read it has to look. Missing folder: none.

    Raises:
        OSError: a folder cannot be listed.
    """
    filesystem, path = _resolve(url)
    prefix = url.rstrip("/")
    if isinstance(filesystem, LocalFileSystem):
        if Path(path).is_dir():
            yield from walk_local(path, prefix)
    else:
        yield from walk_remote(_Lister(url), path.rstrip("/"), prefix)


class _Lister:
    def __init__(self, url: str) -> None:
        # Without the listing cache, which would keep a dictionary of every file for the life of the process.
        self.url, self.filesystem = url, fsspec.core.url_to_fs(url, use_listings_cache=False)[0]

    def ls(self, folder: str) -> Sequence[Any]:
        return [*_ask(self.filesystem, self.url, lambda: self.filesystem.ls(folder, detail=True))]

    def find(self, folder: str) -> Sequence[Any]:
        return [*_ask(self.filesystem, self.url, lambda: self.filesystem.find(folder, detail=True)).values()]


def read_bytes(url: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    filesystem, path = _resolve(url)
    return bytes(_ask(filesystem, url, lambda: filesystem.cat_file(path)))


def write_bytes(url: str, data: bytes) -> None:
    """Write a whole small file atomically."""
    with atomic_write(url) as sink:
        sink.write(data)


def create(url: str, data: bytes) -> bool:
    """Write a small file where there is none yet; False where there is one.

    Of several who try at once one succeeds, on local disks and on stores with conditional writes (GCS, S3).
    """
    filesystem, path = _resolve(url)
    try:
        if isinstance(filesystem, LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("xb") as sink:
                sink.write(data)
        else:
            _ask(filesystem, url, lambda: filesystem.pipe_file(path, data, mode="create"))
    except FileExistsError:
        return False
    return True


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
            with files.naming(target), os.fdopen(handle, "wb") as sink:
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
        with files.naming(spool), spool.open("wb") as sink:
            yield sink
        parent = posixpath.dirname(path)
        with contextlib.suppress(FileExistsError, NotImplementedError):
            _ask(filesystem, url, lambda: filesystem.makedirs(parent, exist_ok=True))
        _ask(filesystem, url, lambda: filesystem.put_file(str(spool), path))


def remove(url: str, *, recursive: bool = False) -> None:
    """Remove a file, or with `recursive` a folder. A missing one is no error."""
    filesystem, path = _resolve(url)
    with contextlib.suppress(FileNotFoundError):
        _ask(filesystem, url, lambda: filesystem.rm(path, recursive=recursive))


def ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> Sequence[bytes]:
    """Byte ranges of files, in the order asked for. Neighbours are read in one piece: see `merge_ranges`.

    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file ends too early.
    """
    if not urls:
        return []
    spans, places = merge_ranges(urls, starts, lengths)
    local = urls[0].startswith("/") or is_local(urls[0])
    pieces = _local_ranges(spans) if local else _remote_ranges(spans)
    parts = []
    for url, start, length, place in zip(urls, starts, lengths, places, strict=True):
        offset = start - spans[place].start
        part = pieces[place][offset : offset + length]
        if len(part) != length:
            raise OSError(f"{url} ends early: {len(part)} of {length} bytes at offset {start}")
        parts.append(part)
    return parts


def _remote_ranges(spans: Sequence[Span]) -> Sequence[bytes]:
    filesystem, _ = _resolve(spans[0].url)
    paths = {span.url: _resolve(span.url)[1] for span in spans}
    files, starts, ends = [paths[s.url] for s in spans], [s.start for s in spans], [s.end for s in spans]
    # All at once; then those that failed one by one, with patience and with their own names in the error.
    pieces = [*filesystem.cat_ranges(files, starts, ends, on_error="return")]
    for i, span in enumerate(spans):
        if isinstance(pieces[i], Exception):
            read = functools.partial(filesystem.cat_file, files[i], start=span.start, end=span.end)
            pieces[i] = _ask(filesystem, span.url, read)
    return [bytes(piece) for piece in pieces]


def _local_ranges(spans: Sequence[Span]) -> Sequence[bytes]:
    # fsspec's own cat_ranges opens the file once per range.
    handles: dict[str, int] = {}
    try:
        for span in spans:
            if span.url not in handles:
                path = span.url if span.url.startswith("/") else local_path(span.url)
                handles[span.url] = os.open(path, os.O_RDONLY)
        return [os.pread(handles[span.url], span.end - span.start, span.start) for span in spans]
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
        _ask(filesystem, url, lambda: filesystem.get_file(path, str(target)))
        yield target


def download(url: str, target: Path, num_bytes: int) -> str:
    """Copy the file at `url` to a local path, front to back in blocks of 16 MB; returns its sha256 in hex.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is shorter than `num_bytes`.
    """
    digest = hashlib.sha256()
    with target.open("wb") as sink:
        for start in range(0, num_bytes, _BLOCK_BYTES):
            (block,) = ranges([url], [start], [min(_BLOCK_BYTES, num_bytes - start)])
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()


def remove_leftovers(root: str) -> None:
    """Remove what writes that were killed left behind: nobody needs it, and it may hold anybody's frames."""
    for url in storage.list(root):
        if posixpath.basename(url).startswith(".partial-"):
            storage.remove(url)


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """A block that writes to an open file, whose errors otherwise have no name in them.

    Raises:
        OSError: no room, a quota or a size limit; it names `file`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise
