"""Read credentials in a child process: files come from anywhere, and the library that parses them is native code.

The child answers a JSON line for each request. One that crashes, hangs for a minute or needs more than 4 GiB costs one
file.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60
_MEMORY_BYTES = 4 * 2**30


class NoAnswer(Exception):
    """The child ended while it read a file."""


class Reader:
    """A child that reads credentials. A context manager. `anchors` are the certificates to trust, PEM."""

    def __init__(self, anchors: str) -> None:
        self._anchors = anchors
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def read(self, path: Path, media_type: str, sidecar: Path | None = None) -> dict[str, Any]:
        """Return `{"report": ...}`, c2pa's report as JSON, or `{"error": NAME, "message": ...}`, such as
        ManifestNotFound. Raises NoAnswer."""
        return self._ask({"path": str(path), "type": media_type, "sidecar": None if sidecar is None else str(sidecar)})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.__exit__()
            raise NoAnswer
        answer: dict[str, Any] = json.loads(line)
        return answer

    def watermark(self, path: Path, format: str) -> str | None:
        """Return what the mark in a film's frames says of its model, see `watermark.film_watermark`; None: no mark."""
        try:
            answer = self._ask({"path": str(path), "format": format})
        except NoAnswer:
            return None
        return None if answer["model"] is None else str(answer["model"])

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(
            [sys.executable, "-c", "from pipelines.provenance import reader; reader.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(self._anchors) + "\n")
        return child


def main() -> None:
    """The child: read the anchors, then answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    anchors = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(_SECONDS)  # the default action ends the process, native code or not
        answer = _answer(request, anchors)
        signal.alarm(0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(request: dict[str, Any], anchors: str) -> dict[str, Any]:
    path = Path(request["path"])
    if "format" in request:
        from pipelines.provenance.watermark import film_watermark  # loads OpenCV, for films without credentials only

        found = film_watermark(path, request["format"])
        return {"model": None if found is None else found.model}
    sidecar = None if request["sidecar"] is None else Path(request["sidecar"])
    return read_here(path, request["type"], sidecar, anchors)


def read_here(path: Path, media_type: str, sidecar: Path | None, anchors: str) -> dict[str, Any]:
    """Like `Reader.read`, in this process."""
    import c2pa

    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    try:
        beside = None if sidecar is None else sidecar.read_bytes()
        context = c2pa.Context(c2pa.Settings.from_dict(settings))
        with path.open("rb") as file, c2pa.Reader(media_type, file, beside, context) as reader:
            return {"report": json.loads(reader.json())}
    except (c2pa.C2paError, OSError, ValueError, RecursionError, MemoryError) as error:
        return {"error": type(error).__name__.removeprefix("_C2pa"), "message": str(error)}
