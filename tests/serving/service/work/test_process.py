"""The process that runs jobs: whatever a job does, its process can be freed, and the next job runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serving.service.config import ServiceConfig, WorkLimits
from serving.service.errors import JobCancelled
from serving.service.state.requests import VideoRequest
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.process import ChildDied, JobFailed, JobProcess

pytestmark = pytest.mark.slow

_HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(_HERE))


@pytest.fixture(scope="module")
def shared() -> Iterator[JobProcess]:
    process = JobProcess("video", ServiceConfig("m", "d", cpus_per_worker=3.0), "stuck_child")
    yield process
    process.close()


def order(behaviour: str) -> JobOrder:
    return JobOrder("1" * 32, behaviour, VideoRequest("driver.mp4"))


def test_a_job_reports_its_progress_and_its_facts_and_the_process_stays_warm(shared: JobProcess) -> None:
    seen: list[tuple[int, int, str]] = []
    first = shared.run(order("works"), Lease(lambda *progress: seen.append(progress)))
    assert seen[0][1:] == (3, "rendering")
    assert seen[-1] == (3, 3, "rendering")
    assert shared.run(order("works"), Lease()) == first
    assert first["threads"] == "3", "as many as its CPUs"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("bad input", "picture 1: no face found"),
        ("our fault", "internal error; it is in the server's log"),
    ],
)
def test_a_failed_job_says_why_without_details_of_the_server(shared: JobProcess, behaviour: str, reason: str) -> None:
    with pytest.raises(JobFailed) as failed:
        shared.run(order(behaviour), Lease())
    assert str(failed.value) == reason


def test_a_crash_is_told_and_the_next_job_runs(shared: JobProcess) -> None:
    with pytest.raises(ChildDied, match="SIGSEGV"):
        shared.run(order("crash"), Lease())
    assert "pid" in shared.run(order("works"), Lease())


@pytest.mark.parametrize("behaviour", ["long", "endless decoder", "stuck kernel", "stopped encoder"])
def test_a_cancelled_job_frees_its_process_within_two_seconds(shared: JobProcess, behaviour: str) -> None:
    shared.start()
    lease = Lease()
    cancelled_at: list[float] = []

    def cancel() -> None:
        time.sleep(0.5)
        cancelled_at.append(time.monotonic())
        lease.stop()

    threading.Thread(target=cancel).start()
    with pytest.raises(JobCancelled):
        shared.run(order(behaviour), lease)
    assert time.monotonic() - cancelled_at[0] < 2
    if behaviour == "stopped encoder":
        assert lease.done > 1
        assert _ended(lease.done), "the encoder goes with its parent"


def test_a_job_without_progress_fails() -> None:
    process = JobProcess("video", ServiceConfig("m", "d", work=WorkLimits(stall_s=0.5)), "stuck_child")
    try:
        with pytest.raises(JobFailed, match=r"given up: no progress for 0\.5 s"):
            process.run(order("stuck kernel"), Lease())
    finally:
        process.close()


def test_a_job_that_takes_too_long_fails() -> None:
    process = JobProcess("video", ServiceConfig("m", "d", work=WorkLimits(job_s=0.5)), "stuck_child")
    try:
        with pytest.raises(JobFailed, match=r"given up: not done after 0\.5 s"):
            process.run(order("long"), Lease())
    finally:
        process.close()


def test_a_model_that_does_not_load_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ChildDied, match="the video worker does not start: ValueError: the model is broken"):
        JobProcess("video", ServiceConfig("broken", "d"), "stuck_child").start()


def test_the_process_ends_with_a_parent_that_is_killed() -> None:
    """Even while it is stopped, and with it what it has started."""
    import subprocess
    import sys

    code = (
        "import time\n"
        "from serving.service.config import ServiceConfig\n"
        "from serving.service.work.process import JobProcess\n"
        "process = JobProcess('video', ServiceConfig('m', 'd'), 'stuck_child')\n"
        "process.start()\n"
        "print(process._child._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    path = os.pathsep.join([str(_HERE), str(_HERE.parents[3])])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    assert _ended(child)


def _ended(pid: int) -> bool:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False
