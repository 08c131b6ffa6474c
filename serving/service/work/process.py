"""Run jobs in a warm child process that can be killed: a decoder, an encoder or a kernel may hang for ever.

The child starts on first use, loads its models once and serves one job after another. It is asked to stop and, a moment
later, killed with all its own children (`child` is its side). Messages are JSON lines, never pickled objects: the child
reads untrusted pictures and videos.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from serving.service.config import ServiceConfig, config_json
from serving.service.errors import JobCancelled
from serving.service.state.requests import Facts, FailureCause, to_json
from serving.service.work.lease import JobOrder, Lease

log = logging.getLogger(__name__)

_IMPORT_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds the package `serving`
_POLL_S = 0.1


class JobFailed(Exception):
    """The job has failed for this reason, which is in the client's words."""

    def __init__(self, reason: str, cause: FailureCause) -> None:
        super().__init__(reason)
        self.cause = cause


class ChildDied(Exception):
    """The child died while it ran the job."""


class JobProcess:
    """A child process that runs jobs of one kind. `run` and `start` are called from one thread at a time."""

    def __init__(
        self,
        kind: str,
        config: ServiceConfig,
        module: str = "serving.service.work.child",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`module` is run with the kind (avatar, video, still) as its argument, and with further variables."""
        self._kind, self._config, self._limits, self._module = kind, config, config.work, module
        threads = max(1, round(config.cpus_per_worker))
        self._environment = {**environment, "OMP_NUM_THREADS": str(threads)}
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child unless it runs, and wait until its models are loaded.

        Raises:
            ChildDied: it cannot start; its own words are in the log.
        """
        if self._child is not None and self._child.alive:
            return
        self.close()
        child = self._child = _Child(self._module, self._kind, config_json(self._config), self._environment)
        message = child.receive(self._limits.start_s)
        if message.get("op") != "ready":
            self.close()
            raise ChildDied(f"the {self._kind} worker does not start: {message.get('reason', 'no answer')}")

    def run(self, order: JobOrder, lease: Lease) -> Facts:
        """Run a job; its progress goes to `lease`, which also tells the child to stop.

        Raises:
            JobFailed: the input cannot be used, or a time limit is over.
            JobCancelled: the lease was stopped.
            ChildDied: the child died.
        """
        self.start()
        child = self._child
        assert child is not None
        child.send(
            {"op": "run", "id": order.id, "avatar_id": order.avatar_id, "request": json.loads(to_json(order.request))}
        )
        started = last_progress = time.monotonic()
        asked_at: float | None = None
        while True:
            now = time.monotonic()
            if lease.stopped and asked_at is None:
                asked_at = now
                child.send({"op": "stop"})
            if asked_at is not None and now > asked_at + self._limits.grace_s:
                self.close()
                raise JobCancelled
            for over, limit, what in (
                (now - last_progress, self._limits.stall_s, "no progress for"),
                (now - started, self._limits.job_s, "not done after"),
            ):
                if over > limit and asked_at is None:
                    self.close()
                    raise JobFailed(f"given up: {what} {limit:g} s", "stalled")
            message = child.receive(_POLL_S)
            match message.get("op"):
                case None:
                    continue
                case "progress":
                    last_progress = now
                    with contextlib.suppress(JobCancelled):  # sent above, in the next turn
                        lease.progress(message["done"], message["total"], message["stage"])
                case "done":
                    return dict(message["facts"])
                case "stopped":
                    raise JobCancelled
                case "failed":
                    raise JobFailed(message["reason"], "input" if message["is_input"] else "internal")
                case _:
                    self.close()
                    raise ChildDied(f"the {self._kind} worker died: {message.get('reason')}")

    def close(self) -> None:
        """Kill the child and all its children."""
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    """The child's process group and its pipes."""

    def __init__(self, module: str, kind: str, config: str, environment: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,  # its encoders and decoders are killed with it
        )
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.close: Callable[[], object] = weakref.finalize(self, _kill, self._process)
        threading.Thread(target=_read, args=(self._process, self._messages), daemon=True).start()
        self._write(config)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message))

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died, which the reader tells
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Return the next message; {} when none comes in time."""
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return {}


def _read(process: subprocess.Popen[bytes], messages: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Pass on the child's messages, then that it has died."""
    for message in _lines(process):
        messages.put(message)
    code = process.wait()
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    messages.put({"op": "died", "reason": how})


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # closed in the middle, or a broken line of a dying process
        for line in process.stdout:
            yield json.loads(line)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
