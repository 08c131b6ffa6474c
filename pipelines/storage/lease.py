"""A lease on a folder: a file in it names the process that writes the folder, which renews the file while it lives."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from pipelines import storage
from pipelines.cli import console

RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 0.5
_held: set[str] = set()
"""Owners of the leases that this process holds."""


@dataclass(frozen=True)
class Lease:
    """The process that holds a folder."""

    owner: str
    """Unique to one start of the command."""
    host: str
    pid: int
    renewed: float
    """Unix time, seconds."""
    since: float | None = None
    """Unix time at which the process took the lease; None in a file of an earlier version."""

    def __str__(self) -> str:
        since = f" since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"process {self.pid} on {self.host}{since}"

    def is_held(self, now: float) -> bool:
        """Return whether the owner may live: renewed a short time ago and, on this machine, an existing process."""
        return self._is_there() and now - self.renewed < STALE_SECONDS

    def _is_there(self) -> bool:
        if self.host != socket.gethostname():
            return True
        # A restarted container may have the host's name and the process number of the one before.
        return self.owner in _held if self.pid == os.getpid() else _process_exists(self.pid)


@dataclass(frozen=True)
class Terms:
    """What a lease is for, and how its errors say so."""

    file: str
    """Name of the lease's file in the folder."""
    doing: str
    """What the holder does with the folder, as in `is being trained`."""
    instead: str
    """What a second process may do besides waiting, as in `choose another -o`."""


@contextlib.contextmanager
def hold(folder: str, terms: Terms, on_lost: Callable[[], None] = _thread.interrupt_main) -> Iterator[None]:
    """Hold the lease on a folder during the block.

    A lease of another machine may be that of a process which was killed there: it is watched until it is renewed, or
    has not been for `STALE_SECONDS`, so that a restart elsewhere goes on by itself.

    Args:
        folder: path or URL.
        on_lost: called from another thread when another process took the lease, after this one was suspended for too
            long. The default interrupts the main thread as Ctrl-C does.

    Raises:
        ValueError: another process holds the lease.
    """
    url, now = storage.join(folder, terms.file), time.time()
    is_new = storage.is_local(folder) and not storage.exists(folder)
    own = Lease(uuid.uuid4().hex, socket.gethostname(), os.getpid(), now, now)
    _held.add(own.owner)  # first: other threads take a lease of this process that is not held for that of a dead one
    try:
        _acquire(folder, url, own, terms)
    except BaseException:
        _held.discard(own.owner)
        raise
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(url, own, done, on_lost), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        renewer.join()
        _held.discard(own.owner)
        with contextlib.suppress(OSError):  # a lease that is not removed goes stale
            if _is_ours(url, own):
                storage.remove(url)
            if is_new:  # nothing came of it: leave no empty folder
                storage.local_path(folder).rmdir()


def holder(folder: str, terms: Terms) -> Lease | None:
    """Return the lease on a folder, if the process that it names may live."""
    lease = _read(storage.join(folder, terms.file))
    return lease if lease is not None and lease.is_held(time.time()) else None


def _acquire(folder: str, url: str, own: Lease, terms: Terms) -> None:
    if storage.create(url, _encode(own)):
        return
    other = _read(url)
    if other is None:  # it may be in the middle of being written or released
        time.sleep(_SETTLE_SECONDS)
        other = _read(url)
    if other is not None and _lives(url, other):
        ago = max(time.time() - other.renewed, 0)
        raise ValueError(
            f"{folder} {terms.doing} by {other}, last heard of {ago:.0f} s ago: wait for it or stop it, or "
            f"{terms.instead}"
        )
    storage.write_bytes(url, _encode(own))
    time.sleep(_SETTLE_SECONDS)  # if several processes take a stale lease, the last to write has it
    if not _is_ours(url, own):
        raise ValueError(f"{folder} was just taken up by another process: wait for it, or {terms.instead}")


def _lives(url: str, other: Lease) -> bool:
    """Return whether the process of a lease lives; of one on another machine, watch whether it renews it."""
    if other.host == socket.gethostname() or not other.is_held(time.time()):
        return other.is_held(time.time())
    console().print(f"waiting to hear whether {other} is still at work here ...")
    while other.is_held(time.time()):
        time.sleep(_LOOK_SECONDS)
        now = _read(url)
        if now is None:
            return False
        if now != other:
            return True
    return False


def _renew(url: str, own: Lease, done: threading.Event, on_lost: Callable[[], None]) -> None:
    while not done.wait(RENEW_SECONDS):
        # A failed storage request does not lose the lease: try again at the next renewal.
        with contextlib.suppress(OSError):
            other = _read(url)
            if other is not None and other.owner != own.owner:
                on_lost()
                return
            storage.write_bytes(url, _encode(replace(own, renewed=time.time())))


def _is_ours(url: str, own: Lease) -> bool:
    stored = _read(url)
    return stored is not None and stored.owner == own.owner


def _read(url: str) -> Lease | None:
    """Return the lease at `url`, or None if there is none or it cannot be read."""
    try:
        return TypeAdapter(Lease).validate_json(storage.read_bytes(url))
    except (FileNotFoundError, ValidationError):
        return None


def _encode(lease: Lease) -> bytes:
    return json.dumps(asdict(lease)).encode()


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
