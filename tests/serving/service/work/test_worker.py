"""The worker's loop, with jobs of a few lines."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from serving.service.config import QueueRules
from serving.service.state.database import Database
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.requests import AvatarRequest, Facts
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.process import ChildDied, JobFailed
from serving.service.work.worker import Rest, RunJob, Worker

RULES = QueueRules(max_attempts=3, lease_s=0.3, poll_s=0.01)
ID = "1" * 32


@pytest.fixture
def jobs(tmp_path: Path) -> JobQueue:
    jobs = JobQueue(Database(f"sqlite:///{tmp_path}/jobs.sqlite3"), RULES)
    jobs.reserve(ID, "2" * 32, "avatar")
    jobs.submit(ID, AvatarRequest(("picture-01.jpg",)))
    return jobs


def make(jobs: JobQueue, run: RunJob, ended: list[tuple[str, bool]] | None = None) -> Worker:
    kept = [] if ended is None else ended
    return Worker(
        jobs, "avatar", lambda: None, run, RULES, name="test", ended=lambda job, done: kept.append((job.id, done))
    )


def until(jobs: JobQueue, state: str) -> Job:
    deadline = time.monotonic() + 10
    while jobs.get(ID).state != state:
        assert time.monotonic() < deadline, f"still {jobs.get(ID).state}"
        time.sleep(0.01)
    return jobs.get(ID)


def test_a_job_is_done_with_what_its_work_returned(jobs: JobQueue) -> None:
    ended: list[tuple[str, bool]] = []
    assert make(jobs, lambda job, lease: {"frames": 2}, ended).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).facts, ended) == ("done", {"frames": 2}, [(ID, True)])


def test_without_jobs_there_is_nothing_to_do(jobs: JobQueue) -> None:
    jobs.cancel(ID)
    assert not make(jobs, lambda job, lease: {}).run_one()


def test_a_failed_job_keeps_its_reason_and_nothing_else(jobs: JobQueue) -> None:
    def work(job: JobOrder, lease: Lease) -> Facts:
        raise JobFailed("picture 1: no face found", "input")

    ended: list[tuple[str, bool]] = []
    make(jobs, work, ended).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).error) == ("failed", "picture 1: no face found")
    assert ended == [(ID, False)]


def test_a_job_whose_process_dies_is_tried_once_more(jobs: JobQueue) -> None:
    def work(job: JobOrder, lease: Lease) -> Facts:
        raise ChildDied("the avatar worker died: signal SIGSEGV")

    ended: list[tuple[str, bool]] = []
    worker = make(jobs, work, ended)
    worker.run_one()
    assert (jobs.get(ID).state, ended) == ("queued", [])
    worker.run_one()
    assert jobs.get(ID).state == "failed"
    assert jobs.get(ID).error == "given up after 2 crashes: the avatar worker died: signal SIGSEGV"
    assert ended == [(ID, False)]


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(jobs: JobQueue) -> None:
    def work(job: JobOrder, lease: Lease) -> Facts:
        jobs.delete([job.id])
        return {}

    ended: list[tuple[str, bool]] = []
    make(jobs, work, ended).run_one()
    assert ended == [(ID, False)]


@pytest.mark.slow
def test_a_long_job_keeps_its_lease_and_shows_progress(jobs: JobQueue) -> None:
    def work(job: JobOrder, lease: Lease) -> Facts:
        lease.progress(1, 2)
        time.sleep(3 * RULES.lease_s)
        assert jobs.claim("avatar", "thief") is None
        return {}

    make(jobs, work).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).attempts, jobs.get(ID).total) == ("done", 1, 2)


def test_a_cancelled_job_stops_and_the_worker_goes_on(jobs: JobQueue) -> None:
    ended: list[tuple[str, bool]] = []
    begun = threading.Event()

    def work(job: JobOrder, lease: Lease) -> Facts:
        begun.set()
        for step in range(10_000):
            lease.progress(step, 10_000)
            time.sleep(0.005)
        return {}

    worker = make(jobs, work, ended)
    worker.start()
    assert begun.wait(5)
    jobs.cancel(ID)
    deadline = time.monotonic() + 5
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert jobs.get(ID).state == "cancelled"
    assert worker.alive
    worker.stop()


def test_a_stopped_worker_puts_its_job_back(jobs: JobQueue) -> None:
    begun = threading.Event()

    def work(job: JobOrder, lease: Lease) -> Facts:
        begun.set()
        while True:
            lease.progress(0, 1)
            time.sleep(0.005)

    worker = make(jobs, work)
    worker.start()
    assert begun.wait(5)
    worker.stop()
    assert not worker.alive
    assert (jobs.get(ID).state, jobs.get(ID).attempts) == ("queued", 0)


def test_a_job_survives_the_loss_of_its_worker(jobs: JobQueue) -> None:
    assert jobs.claim("avatar", "lost") is not None  # never renewed: as if its process were gone
    worker = make(jobs, lambda job, lease: {})
    worker.start()
    assert until(jobs, "done").attempts == 2
    worker.stop()


def test_a_worker_that_is_not_needed_holds_no_process(jobs: JobQueue) -> None:
    log: list[str] = []

    def run(job: JobOrder, lease: Lease) -> Facts:
        log.append("ran")
        return {}

    def make_one(rank: int) -> Worker:
        rest = Rest(rank, 0.1, lambda: log.append("closed"))
        return Worker(
            jobs,
            "avatar",
            lambda: log.append("prepared"),
            run,
            RULES,
            name="test",
            ended=lambda job, done: None,
            rest=rest,
        )

    second = make_one(2)
    second.start()
    time.sleep(0.2)
    second.stop()
    assert set(log) == {"closed"}, "one job waits: it takes the first worker alone"
    log.clear()
    first = make_one(1)
    first.start()
    until(jobs, "done")
    deadline = time.monotonic() + 10
    while "closed" not in log:
        assert time.monotonic() < deadline
        # A worker looks again when the table has changed.
        jobs.uploads_removed(ID)
        time.sleep(0.05)
    first.stop()
    assert log[:2] == ["prepared", "ran"]
    assert log.index("closed") > log.index("ran")


def test_an_idle_worker_asks_the_table_only_after_a_change(jobs: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.cancel(ID)
    looks: list[float] = []
    claim = jobs.claim
    monkeypatch.setattr(jobs, "claim", lambda *arguments: looks.append(time.monotonic()) or claim(*arguments))
    worker = make(jobs, lambda job, lease: {})
    worker.start()
    time.sleep(0.3)
    assert len(looks) == 1
    jobs.reserve("3" * 32, "4" * 32, "avatar")
    jobs.submit("3" * 32, AvatarRequest(("picture-01.jpg",)))
    deadline = time.monotonic() + 5
    while jobs.get("3" * 32).state != "done":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.stop()
