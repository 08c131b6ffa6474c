"""Write files atomically: a reader sees the old file, the new one, or none."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipelines.storage.scratch import ScratchFolder
from pipelines.storage.urls import is_local_filesystem, request, resolve

PARTIAL_PREFIX = ".partial-"
"""Names of files that are being written begin with this; a killed process leaves them behind."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_write(url: str) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `url`, complete, when the block ends without an error, else not at all.

    Local: a temporary file in the same folder, fsync, rename. Remote: spooled locally and uploaded in one piece,
    because closing an fsspec file commits it even after an error.
    """
    filesystem, path = resolve(url)
    if is_local_filesystem(filesystem):
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL_PREFIX)
        try:
            with _named_errors(target), os.fdopen(handle, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            Path(name).chmod(0o644)  # mkstemp creates files with 0600, which other users cannot read
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
        return
    with ScratchFolder() as folder:
        spool = Path(folder) / "spool"
        with _named_errors(spool), spool.open("wb") as sink:
            yield sink
        parent = posixpath.dirname(path)
        with contextlib.suppress(FileExistsError, NotImplementedError):
            request(filesystem, url, lambda: filesystem.makedirs(parent, exist_ok=True))
        request(filesystem, url, lambda: filesystem.put_file(str(spool), path))


@contextlib.contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    """Name `file` in errors of writes to an open file, which carry no file name.

    Raises:
        OSError: the disk is full, or a quota or size limit is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise


def write_bytes(url: str, data: bytes) -> None:
    """Write a small file atomically."""
    with atomic_write(url) as sink:
        sink.write(data)


def create(url: str, data: bytes) -> bool:
    """Write a small file unless one exists; return False if one does.

    Of several processes that try at once exactly one succeeds, on local disks and on stores with conditional writes
    (GCS, S3).
    """
    filesystem, path = resolve(url)
    try:
        if is_local_filesystem(filesystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("xb") as sink:
                sink.write(data)
        else:
            request(filesystem, url, lambda: filesystem.pipe_file(path, data, mode="create"))
    except FileExistsError:
        return False
    return True
