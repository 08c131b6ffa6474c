"""Resolve paths and URLs to fsspec filesystems, and join them. The only module that imports fsspec.

A path without a scheme is local.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipelines.one_line import hide_credentials
from pipelines.storage.retries import retrying

_RETRYING_PROTOCOLS = {"gs", "gcs", "s3", "s3a", "abfs", "az"}  # their filesystems retry failed requests themselves

_T = TypeVar("_T")


def resolve(url: str, **options: Any) -> tuple[Any, str]:
    """Return the fsspec filesystem of `url`, made with `options`, and the path inside it.

    Call it for each operation: fsspec caches instances per process and thread, and a gcsfs instance that is carried
    over a fork hangs.
    """
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    return filesystem, str(path)


def is_local_filesystem(filesystem: Any) -> bool:
    """Whether `resolve` returned the local filesystem."""
    return isinstance(filesystem, LocalFileSystem)


def request(filesystem: Any, url: str, action: Callable[[], _T]) -> _T:
    """Return `action()`, retried while a remote store is busy. Errors name `url`; see `retries.retrying`."""
    if is_local_filesystem(filesystem):
        return action()
    log = logging.getLogger("gcsfs")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # otherwise gcsfs prints the traceback of a failed request to stderr
    names = {filesystem.protocol} if isinstance(filesystem.protocol, str) else {*filesystem.protocol}
    return retrying(url, action, retries_itself=bool(names & _RETRYING_PROTOCOLS))


def is_local(url: str) -> bool:
    """Whether `url` is a plain path or a file:// URL."""
    return is_local_filesystem(resolve(url)[0])


def local_path(url: str) -> Path:
    """Return the local path of `url`. Raises ValueError for anything that is not local."""
    filesystem, path = resolve(url)
    if not is_local_filesystem(filesystem):
        raise ValueError(f"{url} is not a local path")
    return Path(path)


def absolute(url: str) -> str:
    """Return `url` with a local path made absolute, so that a worker in another working directory can open it."""
    return str(local_path(url).absolute()) if is_local(url) else url


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """Return the pyarrow filesystem of `url` and the path inside it."""
    from pyarrow import fs

    filesystem, path = resolve(url)
    return fs.LocalFileSystem() if is_local(url) else fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def join(root: str, *parts: str) -> str:
    """Return `root` and `parts` joined by single slashes; `root` may be a path or a URL."""
    return posixpath.join(root.rstrip("/") or "/", *parts) if parts else root


def parent(url: str) -> str:
    """Return the folder of a file; `.` for a bare name."""
    return url.rstrip("/").rpartition("/")[0] or ("/" if url.startswith("/") else ".")


def name(url: str) -> str:
    """Return the name of a file or folder, with its suffix; of an http(s) URL without the query, unquoted."""
    found = PurePosixPath(hide_credentials(url).rstrip("/")).name
    return PurePosixPath(unquote(found)).name if url.lower().startswith(("http://", "https://")) else found
