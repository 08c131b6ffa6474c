"""A front end without Ray as a process of its own: `python -m web.front_end_process`.

The first line of its standard input is its configuration; it prints "ready" and ends with its standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.service.config import ServiceConfig, config_json, parse_config

_FOLDERS = (str(Path(__file__).parents[1]), str(Path(__file__).parents[3]))


@contextmanager
def front_end(config: ServiceConfig) -> Iterator[subprocess.Popen[bytes]]:
    """Run a front end at the configuration's port while the block lasts."""
    with start_front_end(config) as process:
        try:
            yield process
        finally:
            process.communicate()


def start_front_end(config: ServiceConfig) -> subprocess.Popen[bytes]:
    """Start a front end and wait until it listens; closing its standard input ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "web.front_end_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_FOLDERS)},
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(config_json(config).encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    return process


def free_port() -> int:
    """Return a port that nothing listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    from serving.service.front_end import FrontEnd

    serving = FrontEnd(parse_config(json.loads(sys.stdin.readline())), None)
    print("ready", flush=True)  # noqa: T201 - for the parent
    sys.stdin.read()
    serving.__del__()
    os._exit(0)


if __name__ == "__main__":
    main()
