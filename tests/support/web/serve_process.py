"""`sfumato serve` as a process, and what a client of it sees of its jobs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

_ROOT = Path(__file__).parents[3]
_PATIENCE_S = 240.0


@contextmanager
def serving(
    folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[str]]:
    """Start the command in a process group of its own; whatever is left of it afterwards is killed."""
    command = [sys.executable, "-m", "sfumato", "serve", "--data-dir", str(folder / "data"), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **environment},
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            kill_tree(process)


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """kill -9 of a process and of all its children, at once."""
    if process.poll() is None:
        for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the process's output up to a line with `text`; return that line."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"it ended before it said {text!r}: {''.join(seen)}")


def jobs_process(parent: psutil.Process, kind: str) -> psutil.Process:
    """Return the process that runs jobs of a kind, below `parent`."""
    ours = parent.children(recursive=True)
    return next(each for each in ours if cmdline(each)[-2:] == ["serving.service.work.child", kind])


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@dataclass(frozen=True)
class ServiceClient:
    """Sends requests to a service that may be away for a while."""

    url: str

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request, again while nothing listens; every other error is one."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return httpx.request(method, self.url + path, timeout=60.0, trust_env=False, **more).raise_for_status()
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def make_avatar(self, portrait: Path) -> dict[str, Any]:
        return self.call("POST", "/v1/avatars", files={"pictures": portrait.read_bytes()}).json()

    def make_video(self, avatar_id: str, driver: Path) -> str:
        files = {"driver": ("driver.mp4", driver.read_bytes())}
        made: str = self.call("POST", f"/v1/avatars/{avatar_id}/videos", files=files).json()["id"]
        return made

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.call("GET", f"/v1/jobs/{job_id}").json()
        return job

    def until(self, job_id: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a state of a job; its failure is an error."""
        deadline = time.monotonic() + _PATIENCE_S
        while not reached(job := self.job(job_id)):
            assert job["state"] not in ("failed", "cancelled"), job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def until_done(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: job["state"] == "done")

    def until_in_the_middle(self, job_id: str) -> dict[str, Any]:
        """Wait until some of a job's steps are done, but not all."""
        return self.until(job_id, lambda job: bool(job["progress"] and job["progress"]["done"] > 0))

    def frames_of(self, job_id: str, folder: Path) -> tuple[str, ...]:
        """Return the checksum of each decoded frame of a video. The same bytes are sent each time."""
        from pipelines.media.video import decode

        first, again = (self.call("GET", f"/v1/jobs/{job_id}/result").content for _ in range(2))
        assert first == again
        path = folder / f"{job_id}.mp4"
        path.write_bytes(first)
        return tuple(hashlib.sha256(frame.image.tobytes()).hexdigest() for frame in decode(path))
