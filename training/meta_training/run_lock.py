"""One process trains a run: a file below it says who, and is renewed while they live."""

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

FILE = "lease.json"
RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class RunLock:
    """Who trains a run."""

    owner: str
    """Unique to one start of the command."""
    host: str
    pid: int
    renewed: float
    """Unix time, seconds."""

    def is_held(self, now: float) -> bool:
        """Whether its owner seems to live: heard of within a minute, and on this machine a process that exists."""
        if self.host == socket.gethostname() and not _lives(self.pid):
            return False
        return now - self.renewed < STALE_SECONDS


@contextlib.contextmanager
def hold(run: str, on_lost: Callable[[], None]) -> Iterator[None]:
    """Be the one who trains `run` for the time of the block.

    Args:
        run: path or URL of the run.
        on_lost: called, from another thread, when somebody else took over: this process slept for too long.

    Raises:
        ValueError: somebody else trains it.
    """
    url = storage.join(run, FILE)
    mine = RunLock(uuid.uuid4().hex, socket.gethostname(), os.getpid(), time.time())
    _take(run, url, mine)
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(url, mine, done, on_lost), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        renewer.join()
        with contextlib.suppress(OSError):  # it gets old by itself
            if _is_ours(url, mine):
                storage.remove(url)


def _take(run: str, url: str, mine: RunLock) -> None:
    if storage.create(url, _encode(mine)):
        return
    other = _read(url)
    if other is None:  # perhaps it was just being written, or given back
        time.sleep(_SETTLE_SECONDS)
        other = _read(url)
    if other is not None and other.is_held(time.time()):
        ago = max(time.time() - other.renewed, 0)
        raise ValueError(
            f"{run} is being trained by process {other.pid} on {other.host}, last heard of {ago:.0f} s ago: "
            "wait for it or stop it, or choose another -o"
        )
    storage.write_bytes(url, _encode(mine))
    time.sleep(_SETTLE_SECONDS)  # of several who found it abandoned, the last to write has it
    if not _is_ours(url, mine):
        raise ValueError(f"{run} was just taken up by another process: wait for it, or choose another -o")


def _renew(url: str, mine: RunLock, done: threading.Event, on_lost: Callable[[], None]) -> None:
    while not done.wait(RENEW_SECONDS):
        # A store that is away for a moment takes nothing from anybody.
        with contextlib.suppress(OSError):
            other = _read(url)
            if other is not None and other.owner != mine.owner:
                on_lost()
                return
            storage.write_bytes(url, _encode(RunLock(mine.owner, mine.host, mine.pid, time.time())))


def _is_ours(url: str, mine: RunLock) -> bool:
    now = _read(url)
    return now is not None and now.owner == mine.owner


def _read(url: str) -> RunLock | None:
    """The lease at `url`; None where there is none that can be read."""
    try:
        return TypeAdapter(RunLock).validate_json(storage.read_bytes(url))
    except (FileNotFoundError, ValidationError):
        return None


def _encode(lease: RunLock) -> bytes:
    return json.dumps(asdict(lease)).encode()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
