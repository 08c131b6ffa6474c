"""Stop a run in which too many clips fail."""

from __future__ import annotations

from collections import Counter

from pipelines.dataset.rows import Reject
from pipelines.preprocess.quality import RejectReason


class FailureBudgetExceeded(Exception):
    """Too large a share of the clips failed: the fault lies with the run, not with the clips."""


class FailureBudget:
    """Counts outcomes, and raises once more than `share` (0 to 1) of at least `min_clips` clips have failed."""

    def __init__(self, share: float, min_clips: int = 20) -> None:
        self._share, self._min_clips = share, min_clips
        self._num_clips = 0
        self._failures: Counter[str] = Counter()
        self._last = ""

    def count(self, reject: Reject | None) -> None:
        """Count one outcome; None stands for a row. Raises FailureBudgetExceeded with the reasons.

        Files that were missing when the run was planned do not count: planning has named them.
        """
        if reject is not None and reject.code == RejectReason.MISSING:
            return
        self._num_clips += 1
        if reject is None or reject.status != "failed":
            return
        self._failures[reject.code] += 1
        self._last = f"{reject.source}: {reject.message}"
        failed = self._failures.total()
        if self._num_clips >= self._min_clips and failed > self._share * self._num_clips:
            reasons = ", ".join(f"{number} {code}" for code, number in self._failures.most_common())
            raise FailureBudgetExceeded(
                f"{failed} of {self._num_clips} clips failed, more than the budget of {self._share:.0%} "
                f"({reasons}); the last one: {self._last}"
            )
