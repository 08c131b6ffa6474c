"""`sfumato serve` as a process: its ports, and its end."""

from __future__ import annotations

import os
import signal
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from web.front_end_process import free_port
from web.serve_process import read_until, serving

pytestmark = pytest.mark.long


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
        read_until(process, "starting")
        time.sleep(seconds)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        started = time.monotonic()
        process.terminate()
        assert process.wait(20.0) == 130
        assert not all_gone(family[1:], 5.0)
        assert time.monotonic() - started < 20, "ten on a machine that does nothing else"
