"""A lock on a run: a file names the process that trains it, which renews the file while it lives."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from pipelines import storage
from pipelines.cli import console

FILE = "lease.json"
RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class RunLock:
    """The process that trains a run."""

    owner: str
    """Unique to one start of the command."""
    host: str
    pid: int
    renewed: float
    """Unix time, seconds."""

    def is_held(self, now: float) -> bool:
        """Return whether the owner may live: renewed a short time ago and, on this machine, an existing process."""
        if self.host == socket.gethostname() and not _process_exists(self.pid):
            return False
        return now - self.renewed < STALE_SECONDS


@contextlib.contextmanager
def hold(run: str, on_lost: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a run during the block.

    A lock of another machine may be that of a process which was killed there: it is watched until it is renewed, or has
    not been for `STALE_SECONDS`, so that a restart elsewhere goes on by itself.

    Args:
        run: path or URL of the run.
        on_lost: called from another thread when another process took the lock, after this one was suspended for too
            long.

    Raises:
        ValueError: another process holds the lock.
    """
    url = storage.join(run, FILE)
    own = RunLock(uuid.uuid4().hex, socket.gethostname(), os.getpid(), time.time())
    _acquire(run, url, own)
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(url, own, done, on_lost), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        renewer.join()
        with contextlib.suppress(OSError):  # a lock that is not removed goes stale
            if _is_ours(url, own):
                storage.remove(url)


def _acquire(run: str, url: str, own: RunLock) -> None:
    if storage.create(url, _encode(own)):
        return
    other = _read(url)
    if other is None:  # it may be in the middle of being written or released
        time.sleep(_SETTLE_SECONDS)
        other = _read(url)
    if other is not None and _lives(url, other):
        ago = max(time.time() - other.renewed, 0)
        raise ValueError(
            f"{run} is being trained by process {other.pid} on {other.host}, last heard of {ago:.0f} s ago: "
            "wait for it or stop it, or choose another -o"
        )
    storage.write_bytes(url, _encode(own))
    time.sleep(_SETTLE_SECONDS)  # if several processes take a stale lock, the last to write has it
    if not _is_ours(url, own):
        raise ValueError(f"{run} was just taken up by another process: wait for it, or choose another -o")


def _lives(url: str, other: RunLock) -> bool:
    """Return whether the process of a lock lives; of one on another machine, watch whether it renews it."""
    if other.host == socket.gethostname() or not other.is_held(time.time()):
        return other.is_held(time.time())
    console().print(f"waiting to hear whether process {other.pid} on {other.host} still trains this run ...")
    while other.is_held(time.time()):
        time.sleep(_LOOK_SECONDS)
        now = _read(url)
        if now is None:
            return False
        if now != other:
            return True
    return False


def _renew(url: str, own: RunLock, done: threading.Event, on_lost: Callable[[], None]) -> None:
    while not done.wait(RENEW_SECONDS):
        # A failed storage request does not lose the lock: try again at the next renewal.
        with contextlib.suppress(OSError):
            other = _read(url)
            if other is not None and other.owner != own.owner:
                on_lost()
                return
            storage.write_bytes(url, _encode(RunLock(own.owner, own.host, own.pid, time.time())))


def _is_ours(url: str, own: RunLock) -> bool:
    stored = _read(url)
    return stored is not None and stored.owner == own.owner


def _read(url: str) -> RunLock | None:
    """Return the lock at `url`, or None if there is none or it cannot be read."""
    try:
        return TypeAdapter(RunLock).validate_json(storage.read_bytes(url))
    except (FileNotFoundError, ValidationError):
        return None


def _encode(lock: RunLock) -> bytes:
    return json.dumps(asdict(lock)).encode()


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
