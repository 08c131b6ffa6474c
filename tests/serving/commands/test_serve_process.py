"""`sfumato serve` as a process: its ports, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from web.front_end_process import free_port

pytestmark = pytest.mark.long

_ROOT = Path(__file__).parents[3]


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command in a process group of its own; whatever is left of it afterwards is killed."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sfumato", "serve", "--data-dir", str(folder / "data"), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for each in (*psutil.Process(process.pid).children(recursive=True), process):
                    each.kill()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended before it said {text!r}")


def all_gone(processes: list[psutil.Process], timeout_s: float) -> list[str]:
    """Wait for processes to end; return the names of those that live."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return [each.name() for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_all_ports_are_on_loopback_and_the_end_of_its_process_group_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", str(free_port())) as process:
        read_until(process, "Ctrl-C stops it")
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        listening = {
            connection.laddr.ip
            for each in family
            for connection in each.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening
        assert all(ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening), listening
        started = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20.0) == 130
        assert not all_gone(family[1:], 5.0)
        assert time.monotonic() - started < 20, "ten on a machine that does nothing else"


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_the_end_while_it_starts_leaves_nothing(seconds: float, tmp_path: Path) -> None:
    with serving(tmp_path, "--port", str(free_port())) as process:
        read_until(process, "starting Ray Serve")
        time.sleep(seconds)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        started = time.monotonic()
        process.terminate()
        assert process.wait(20.0) == 130
        assert not all_gone(family[1:], 5.0)
        assert time.monotonic() - started < 20, "ten on a machine that does nothing else"
