"""The jobs table: claims, leases, cancels, idempotency."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from serving.service.config import QueueRules
from serving.service.errors import BadInput, Conflict, NotFound, QueueFull
from serving.service.state.database import Database
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.requests import AvatarRequest, VideoRequest

RULES = QueueRules(max_waiting=50, max_attempts=2, lease_s=10.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobQueue:
    return JobQueue(database, RULES, clock)


def submit(jobs: JobQueue, number: int = 1, **more: str) -> Job:
    job_id = f"{number:032x}"
    jobs.reserve(job_id, f"{number + 100:032x}", "avatar")
    job, _ = jobs.submit(job_id, AvatarRequest(("picture-01.jpg",)), **more)
    return job


def claim(jobs: JobQueue, worker: str = "a") -> Job:
    job = jobs.claim("avatar", worker)
    assert job is not None
    return job


def test_a_submitted_job_waits_and_can_be_read_back(jobs: JobQueue, clock: Clock) -> None:
    job = submit(jobs)
    assert (job.state, job.attempts, job.created_at, job.started_at) == ("queued", 0, clock.now, None)
    assert jobs.get(job.id) == job
    assert job.request == AvatarRequest(("picture-01.jpg",), None)


def test_jobs_are_claimed_oldest_first_and_only_of_the_asked_kind(jobs: JobQueue) -> None:
    first, second = submit(jobs, 1), submit(jobs, 2)
    jobs.reserve("f" * 32, first.avatar_id, "video")
    jobs.submit("f" * 32, VideoRequest("driver"))
    assert [claim(jobs).id, claim(jobs).id] == [first.id, second.id]
    assert jobs.claim("avatar", "a") is None
    video = jobs.claim("video", "b")
    assert video is not None
    assert video.request == VideoRequest("driver")


@pytest.mark.slow
def test_two_workers_never_claim_the_same_job(database: Database, another: Database) -> None:
    first_view, second_view = JobQueue(database, RULES), JobQueue(another, RULES)
    for number in range(40):
        submit(first_view, number)
    claimed: list[str] = []
    start = threading.Barrier(4)

    def work(view: JobQueue, name: str) -> None:
        start.wait()
        while (job := view.claim("avatar", name)) is not None:
            claimed.append(job.id)

    threads = [
        threading.Thread(target=work, args=(view, str(n))) for n, view in enumerate([first_view, second_view] * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"{number:032x}" for number in range(40))


def test_a_running_job_stays_with_its_worker_while_the_lease_is_renewed(jobs: JobQueue, clock: Clock) -> None:
    submit(jobs)
    job = claim(jobs)
    for step in range(5):
        clock.now += 9
        assert jobs.renew(job, step, 5)
        assert jobs.claim("avatar", "b") is None
    assert (jobs.get(job.id).done, jobs.get(job.id).total) == (4, 5)


def test_the_job_of_a_lost_worker_goes_to_the_next(jobs: JobQueue, clock: Clock) -> None:
    submit(jobs)
    claim(jobs)
    clock.now += 10.1
    assert claim(jobs, "b").attempts == 2


def test_a_worker_that_comes_back_late_cannot_settle_a_job_it_lost(jobs: JobQueue, clock: Clock) -> None:
    submit(jobs)
    late = claim(jobs, "a")
    clock.now += 10.1
    current = claim(jobs, "b")
    assert not jobs.renew(late, 1, 2)
    assert not jobs.finish(late, {"by": "a"})
    assert not jobs.fail(late, "a")
    assert jobs.finish(current, {"by": "b"})
    assert jobs.get(current.id).facts == {"by": "b"}


def test_a_job_that_kills_its_workers_is_given_up(jobs: JobQueue, clock: Clock) -> None:
    job = submit(jobs)
    for _ in range(RULES.max_attempts):
        claim(jobs)
        clock.now += 10.1
    assert jobs.claim("avatar", "c") is None
    assert jobs.get(job.id).state == "failed"
    assert jobs.get(job.id).error == "given up: 2 workers were lost while running it"


def test_a_released_job_waits_again_and_its_attempt_does_not_count(jobs: JobQueue) -> None:
    submit(jobs)
    assert jobs.release(claim(jobs))
    assert claim(jobs).attempts == 1


def test_finished_and_failed_jobs_keep_their_facts_and_reason(jobs: JobQueue, clock: Clock) -> None:
    submit(jobs, 1), submit(jobs, 2)
    done, failed = claim(jobs), claim(jobs)
    clock.now += 3
    assert jobs.finish(done, {"frames": 3, "fps": "30000/1001"})
    assert jobs.fail(failed, "picture 1: no face found")
    assert jobs.get(done.id).facts == {"frames": 3, "fps": "30000/1001"}
    assert jobs.get(done.id).finished_at == clock.now
    assert jobs.get(failed.id).error == "picture 1: no face found"


def test_a_cancelled_job_is_not_claimed_and_loses_its_lease(jobs: JobQueue) -> None:
    waiting, running = submit(jobs, 1), submit(jobs, 2)
    jobs.cancel(waiting.id)
    job = claim(jobs)
    assert job.id == running.id
    assert jobs.cancel(job.id).state == "cancelled"
    assert jobs.cancel(job.id).state == "cancelled"
    assert not jobs.renew(job, 0, 0)
    assert not jobs.finish(job, {})
    assert jobs.claim("avatar", "b") is None


def test_an_ended_job_cannot_be_cancelled(jobs: JobQueue) -> None:
    submit(jobs)
    job = claim(jobs)
    jobs.finish(job, {})
    with pytest.raises(Conflict, match="the job is done"):
        jobs.cancel(job.id)


@pytest.mark.parametrize("ask", [lambda jobs: jobs.get("0" * 32), lambda jobs: jobs.cancel("0" * 32)])
def test_an_unknown_job_is_not_found(jobs: JobQueue, ask: Callable[[JobQueue], object]) -> None:
    with pytest.raises(NotFound, match="no such job"):
        ask(jobs)


def test_one_idempotency_key_makes_one_job(jobs: JobQueue) -> None:
    first = submit(jobs, 1, idempotency_key="k", fingerprint="same")
    jobs.reserve("2" * 32, "3" * 32, "avatar")
    again, created = jobs.submit("2" * 32, AvatarRequest(("x",)), idempotency_key="k", fingerprint="same")
    assert (again, created) == (first, False)
    with pytest.raises(BadInput, match="another upload"):
        submit(jobs, 4, idempotency_key="k", fingerprint="other")


def test_the_same_key_twice_at_once_makes_one_job(jobs: JobQueue) -> None:
    start = threading.Barrier(4)
    results: list[tuple[Job, bool]] = []

    def work(number: int) -> None:
        start.wait()
        job_id = f"{number:032x}"
        jobs.reserve(job_id, "9" * 32, "avatar")
        results.append(jobs.submit(job_id, AvatarRequest(("x",)), idempotency_key="k", fingerprint="f"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job, _ in results}) == 1
    assert sorted(created for _, created in results) == [False, False, False, True]


def test_a_full_queue_refuses_and_says_when_to_try_again(database: Database) -> None:
    jobs = JobQueue(database, QueueRules(max_waiting=1, retry_after_s=7))
    submit(jobs, 1)
    with pytest.raises(QueueFull) as refused:
        submit(jobs, 2)
    assert refused.value.retry_after_s == 7
    claim(jobs)
    submit(jobs, 3)


def test_another_process_sees_the_same_table(database: Database, another: Database) -> None:
    job = submit(JobQueue(database, RULES))
    assert JobQueue(another, RULES).get(job.id) == job
