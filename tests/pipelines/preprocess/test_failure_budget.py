import pytest

from pipelines.dataset.rows import Reject
from pipelines.dataset.schema import ClipKey
from pipelines.preprocess.failure_budget import FailureBudget, FailureBudgetExceeded


def reject(number: int, status: str = "failed", code: str = "storage") -> Reject:
    return Reject(ClipKey("i", "v", f"{number}"), f"{number}.mp4", "fetch", status, code, "no route", True)


def test_the_budget_stands_rejects_and_stops_failures_with_their_reasons() -> None:
    budget = FailureBudget(0.25, min_clips=8)
    for number in range(20):
        budget.count(reject(number, status="rejected"))
    for number in range(5):
        budget.count(None)
        budget.count(reject(number))
    for number in range(5, 8):
        budget.count(reject(number))
    with pytest.raises(FailureBudgetExceeded) as caught:
        budget.count(reject(8))
    assert str(caught.value) == (
        "9 of 34 clips failed, more than the budget of 25% (9 storage); the last one: 8.mp4: no route"
    )


def test_a_few_early_failures_do_not_stop_a_run() -> None:
    budget = FailureBudget(0.1, min_clips=20)
    for number in range(19):
        budget.count(reject(number))
    with pytest.raises(FailureBudgetExceeded):
        budget.count(reject(20))


def test_files_that_planning_found_missing_do_not_count() -> None:
    budget = FailureBudget(0.1, min_clips=2)
    for number in range(10):
        budget.count(reject(number, code="missing"))
    budget.count(None)
