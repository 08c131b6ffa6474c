"""The worker's loop, with jobs of a few lines."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from serving.service.config import QueueRules
from serving.service.job_queue import AvatarRequest, Facts, Job, JobQueue
from serving.service.worker import JobLease, JobWork, Worker

RULES = QueueRules(max_attempts=3, lease_s=0.3, poll_s=0.01)
ID = "1" * 32


@pytest.fixture
def jobs(tmp_path: Path) -> JobQueue:
    jobs = JobQueue(tmp_path / "jobs.sqlite3", RULES)
    jobs.submit(ID, "2" * 32, AvatarRequest(("picture-01.jpg",)))
    return jobs


def make(jobs: JobQueue, work: JobWork, ended: list[str] | None = None) -> Worker:
    return Worker(
        jobs,
        "avatar",
        work,
        RULES,
        name="test",
        names=lambda job: {"/data/up/picture-01.jpg": "picture 1"},
        ended=lambda job: (ended if ended is not None else []).append(job.id),
    )


def until(jobs: JobQueue, state: str) -> Job:
    deadline = time.monotonic() + 10
    while jobs.get(ID).state != state:
        assert time.monotonic() < deadline, f"still {jobs.get(ID).state}"
        time.sleep(0.01)
    return jobs.get(ID)


def test_a_job_is_done_with_what_its_work_returned(jobs: JobQueue) -> None:
    ended: list[str] = []
    assert make(jobs, lambda job, lease: {"frames": 2}, ended).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).facts, ended) == ("done", {"frames": 2}, [ID])


def test_without_jobs_there_is_nothing_to_do(jobs: JobQueue) -> None:
    jobs.cancel(ID)
    assert not make(jobs, lambda job, lease: {}).run_one()


def test_bad_input_fails_the_job_in_the_clients_words(jobs: JobQueue) -> None:
    def work(job: Job, lease: JobLease) -> Facts:
        raise ValueError("/data/up/picture-01.jpg: no face found")

    make(jobs, work).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).error) == ("failed", "picture 1: no face found")


def test_our_own_fault_is_told_without_details(jobs: JobQueue) -> None:
    def work(job: Job, lease: JobLease) -> Facts:
        raise RuntimeError("no such table in /data/secret at 10.0.0.7:5432")

    make(jobs, work).run_one()
    assert jobs.get(ID).error == "internal error; it is in the server's log"


@pytest.mark.slow
def test_a_long_job_keeps_its_lease_and_shows_progress(jobs: JobQueue) -> None:
    def work(job: Job, lease: JobLease) -> Facts:
        lease.progress(1, 2)
        time.sleep(3 * RULES.lease_s)
        assert jobs.claim("avatar", "thief") is None
        return {}

    make(jobs, work).run_one()
    assert (jobs.get(ID).state, jobs.get(ID).attempts, jobs.get(ID).total) == ("done", 1, 2)


def test_a_cancelled_job_stops_and_the_worker_goes_on(jobs: JobQueue) -> None:
    ended: list[str] = []
    begun = threading.Event()

    def work(job: Job, lease: JobLease) -> Facts:
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

    def work(job: Job, lease: JobLease) -> Facts:
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
