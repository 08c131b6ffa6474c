"""A Ray cluster whose nodes are processes of this machine, each held to one core: a node stands for a machine of one
core."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import psutil

_STARTED_S = 240.0
# Nodes of one machine must not share what belongs to a machine: ports, a folder, and no more memory than they need.
_OF_ONE_MACHINE = (
    *("--node-ip-address=127.0.0.1", "--num-cpus=1", "--block", "--object-store-memory=80000000"),
    *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0", "--disable-usage-stats"),
)


@dataclass
class RayNode:
    """A node: `ray start --block` and all that it starts."""

    start: Sequence[str]
    """The flags that a machine is given: `--head` and a port, or the head's address."""
    core: int
    environment: Mapping[str, str]
    folder: str = field(init=False)
    """Ray's temporary files. Its path is short: those of sockets have at most 107 bytes."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="node-")

    def up(self) -> None:
        """Start it, unless it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        self.process = subprocess.Popen(
            [*RAY, "start", *self.start, *_OF_ONE_MACHINE, f"--temp-dir={self.folder}"],
            env={**self.environment, "TMPDIR": self.folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {self.core}),
        )

    def workers(self, name: str) -> list[psutil.Process]:
        """Return its processes by the name that Ray gives them, such as `ray::RayTrainWorker`."""
        return [each for each in self.processes() if _words(each)[:1] and _words(each)[0].startswith(name)]

    def kill(self) -> None:
        """kill -9 of all its processes, as when a machine loses its power."""
        for each in self.processes():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        if self.process is not None:
            self.process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return all its processes."""
        if self.process is None or self.process.poll() is not None:
            return []
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


RAY = (sys.executable, "-m", "ray.scripts.scripts")


def cluster_environment(token: str) -> dict[str, str]:
    """Return the environment of a cluster's nodes and clients: this process's, with a token and one thread each."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def running(nodes: Sequence[RayNode], address: str) -> Iterator[None]:
    """Start the nodes, the head first; kill them with the block.

    Raises:
        ValueError: they are not all up within some minutes.
    """
    try:
        nodes[0].up()
        _wait(lambda: is_listening(address), "the head")
        wait_until_joined(nodes, address)
        yield
    finally:
        for node in nodes:
            node.kill()
            shutil.rmtree(node.folder, ignore_errors=True)


def wait_until_joined(nodes: Sequence[RayNode], address: str) -> None:
    """Start nodes that do not run, again and again, until the head knows them all."""

    def joined() -> bool:
        for node in nodes:
            node.up()
        return num_alive(address, nodes[0].environment) >= len(nodes)

    _wait(joined, "the nodes")


def num_alive(address: str, environment: Mapping[str, str]) -> int:
    """Return the number of nodes that the head takes for alive; 0 if it does not answer."""
    command = [*RAY, "status", f"--address={address}"]
    said = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=120, check=False)
    active = said.stdout.partition("Pending:")[0]
    return sum(line.strip().startswith("1 node_") for line in active.splitlines())


def is_listening(address: str) -> bool:
    """Whether something listens at host:port."""
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _STARTED_S
    while not reached():
        if time.monotonic() > deadline:
            raise ValueError(f"{what} did not start within {_STARTED_S:.0f} s")
        time.sleep(0.5)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
