"""Runs many `sfumato` commands at the price of one start: a process that has imported everything forks for each.

Every command is a process of its own, with its arguments, streams and exit code, and ends as the console script does.
Only the seconds of imports are shared. `SfumatoCommands` is the client; the file run as a script is the server. A
request is a line of JSON on standard input, an answer a line of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

ROOT = Path(__file__).parents[2]
# What verbs import only when they run, and would import again in each child.
_FURTHER = ("apache_beam.options.pipeline_options", "mediapipe", "pyarrow.parquet", "tyro", "training.warp.warp")


class SfumatoCommands:
    """Runs `sfumato` command lines; to be closed."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(
        self,
        *arguments: str,
        timeout_s: int = 120,
        folder: Path = ROOT,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run one command in `folder`, with further variables of the environment; its output and exit code, as
        `subprocess.run` gives them."""
        assert self._server.stdin
        assert self._server.stdout
        with tempfile.TemporaryDirectory() as name:
            out, err = Path(name) / "stdout", Path(name) / "stderr"
            request = {
                "arguments": arguments,
                "folder": str(folder),
                "stdout": str(out),
                "stderr": str(err),
                "timeout_s": timeout_s,
                "environment": dict(environment),
            }
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            code = json.loads(self._server.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def _serve(requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            _become(request)
            return
        answers.write(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) + "\n")
        answers.flush()


def _become(request: dict[str, Any]) -> None:
    """Turn this process into the command that `request` describes. SIGALRM ends one that takes too long."""
    import signal

    import sfumato

    for path, number in ((os.devnull, 0), (request["stdout"], 1), (request["stderr"], 2)):
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    signal.alarm(request["timeout_s"])
    sys.argv[1:] = request["arguments"]
    sfumato.command()


if __name__ == "__main__":
    # The commands' own standard output is another file: this one is for answers alone.
    answer_stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.chdir(ROOT)
    import sfumato

    for module in (*(verb.module for verb in sfumato.VERBS.values()), *_FURTHER):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    _serve(sys.stdin, answer_stream)
