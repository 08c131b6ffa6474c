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

    Only a URL whose every part between "::" is a URL or a protocol is one of fsspec's chains: "::" in a file name is
    part of the name. Call it for each operation: fsspec caches instances per process and thread, and a gcsfs instance
    that is carried over a fork hangs.
    """
    if "://" not in url:
        # With "./", fsspec does not read a name such as "file:a.mp4" as a URL.
        path = url if url.startswith(("/", "~", ".")) or not url else f"./{url}"
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(path))
    if "::" not in url or _is_chain(url):
        filesystem, path = fsspec.core.url_to_fs(url, **options)
        return filesystem, str(path)
    protocol = url.partition("://")[0]
    kind = fsspec.get_filesystem_class(protocol)
    return fsspec.filesystem(protocol, **{**kind._get_kwargs_from_urls(url), **options}), str(kind._strip_protocol(url))


def _is_chain(url: str) -> bool:
    protocols = fsspec.available_protocols()
    return all("://" in part or part in protocols for part in url.split("::"))


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
    """Return the folder of a file; `.` for a bare name, the URL itself for the top of a store."""
    scheme, separator, path = url.rpartition("://")
    folder, slash, _ = path.rstrip("/").rpartition("/")
    if separator:
        return f"{scheme}://{folder or ('/' if slash else path)}"
    return folder or ("/" if slash else ".")


def name(url: str) -> str:
    """Return the name of a file or folder, with its suffix; of an http(s) URL without the query, unquoted."""
    found = PurePosixPath(hide_credentials(url).rstrip("/")).name
    return PurePosixPath(unquote(found)).name if url.lower().startswith(("http://", "https://")) else found


def relative(url: str, root: str) -> str:
    """Return the path of `url` below the folder `root`. Both must begin alike, as the results of `walk` do.

    Raises:
        ValueError: `url` does not lie below `root`.
    """
    prefix = root.rstrip("/") + "/"
    if not url.startswith(prefix):
        raise ValueError(f"{url} does not lie below {root}")
    return url[len(prefix) :].lstrip("/")


_HIDDEN_FOLDERS = frozenset({"__MACOSX"})  # where macOS puts the AppleDouble files of a zip


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder above it, is hidden. Pass a path below the folder that is listed.

    Hidden are names that begin with a dot (`.DS_Store`, macOS's AppleDouble files `._clip.mp4`, partial files), and
    the folder `__MACOSX`. Every search for films and pictures leaves them out.
    """
    if "/." not in f"/{path}" and not any(name in path for name in _HIDDEN_FOLDERS):
        return False  # as nearly all of a million files
    parts = (part for part in path.split("/") if part not in (".", ".."))
    return any(part.startswith(".") or part in _HIDDEN_FOLDERS for part in parts)
