"""A front end as a process of its own, as `sfumato serve` starts it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.service.config import ServiceConfig, config_json

_ROOT = Path(__file__).parents[3]


@contextmanager
def front_end(config: ServiceConfig) -> Iterator[subprocess.Popen[bytes]]:
    """Run a front end at the configuration's port while the block lasts."""
    with start_front_end(config) as process:
        try:
            yield process
        finally:
            process.communicate()


def start_front_end(config: ServiceConfig) -> subprocess.Popen[bytes]:
    """Start a front end, which draws no pictures, and wait until it listens; closing its standard input ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.service.front_end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(config_json(dataclasses.replace(config, num_stills=0)).encode() + b"\n")
    process.stdin.flush()
    assert b"ready" in process.stdout.readline()
    return process


def free_port() -> int:
    """Return a port that nothing listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
