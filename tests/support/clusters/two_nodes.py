"""A Ray cluster of two machines of one core each, started by the documented commands, with a token."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from serving.benchmarks.ray_nodes import RayNode, cluster_environment, free_port, running, wait_until_joined

_ROOT = Path(__file__).parents[3]
_PAGE = _ROOT / "docs" / "how-to" / "cluster.md"
_TIMEOUT_S = 300.0
# Soon: a lost node is otherwise waited for during a minute.
_SOON = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "RAY_health_check_period_ms": "1000",
}


def documented(begin: str) -> list[str]:
    """Return the words after the verb of the documented command that begins with `begin`."""
    (command,) = re.findall(rf"^\$ ({begin}.+)$", _section(), flags=re.MULTILINE)
    return shlex.split(command)[2:]


def _section() -> str:
    return _PAGE.read_text().partition("## Machines of your own\n")[2].partition("\n## ")[0]


@dataclass
class TwoNodes:
    """The head on core 0 and a second node on core 1."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    def __post_init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = cluster_environment(self.token) | _SOON | {"PYTHONPATH": str(_ROOT)}
        head, second = (self._here(documented(f"ray start {flag}")) for flag in ("--head", "--address"))
        self.head, self.second = RayNode(head, 0, self.environment), RayNode(second, 1, self.environment)

    @property
    def nodes(self) -> tuple[RayNode, RayNode]:
        return self.head, self.second

    def _here(self, words: list[str]) -> list[str]:
        port = self.address.rpartition(":")[2]
        return [word.replace("head:6379", self.address).replace("--port=6379", f"--port={port}") for word in words]

    def command(self, verb: str, places: Mapping[str, str], *more: str) -> list[str]:
        """Return the documented command of a verb, with its URLs replaced by `places`."""
        words = [places.get(word, word) for word in self._here(documented(f"sfumato {verb}"))]
        return [verb, *words, *more, "--json"]

    @contextmanager
    def started(
        self, command: list[str], *, host: str = "", without: tuple[str, ...] = (), **variables: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Run `sfumato` on core 0, as on the head; `host`: as on a machine of that name."""
        name = f"import socket; socket.gethostname = lambda: {host!r}; " if host else ""
        program = f"import os; os.sched_setaffinity(0, {{0}}); {name}import sfumato; sfumato.command()"
        environment = {key: value for key, value in self.environment.items() if key not in without} | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        arguments = [sys.executable, "-c", program, *command]
        process = subprocess.Popen(arguments, env=environment, cwd=self.folder, **pipes)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def refusals(self, command: list[str]) -> list[str]:
        """Return what is said to clients without a token, two ways, and with another one."""
        said = []
        strangers: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
            (("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"), {}),
            (("RAY_AUTH_TOKEN",), {}),
            ((), {"RAY_AUTH_TOKEN": "0" * 64}),
        )
        for without, variables in strangers:
            home = {"HOME": str(self.folder)}  # a token may lie in the home
            with self.started(command, without=without, **variables, **home) as process:
                _, errors = process.communicate(timeout=_TIMEOUT_S)
            assert process.returncode == 1, errors
            said.append(errors)
        return said


@contextmanager
def two_nodes(folder: Path) -> Iterator[TwoNodes]:
    cluster = TwoNodes(folder)
    with running(cluster.nodes, cluster.address):
        yield cluster


def rejoin(cluster: TwoNodes) -> None:
    """Start again what was killed."""
    wait_until_joined(cluster.nodes, cluster.address)


def wait_until(reached: Callable[[], Any], process: subprocess.Popen[str], what: str) -> None:
    """Wait while the process runs."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, what
        assert process.poll() is None, (what, process.communicate())
        time.sleep(0.1)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the command, which must succeed, and return its JSON."""
    answer, errors = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def kill_one(node: RayNode, name: str) -> None:
    """kill -9 of a node's first worker."""
    workers: list[psutil.Process] = node.workers(name)
    workers[0].kill()
