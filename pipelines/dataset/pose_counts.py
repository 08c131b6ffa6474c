"""How a data set's frames spread over head poses: small counts that shards keep in their reports and that add up."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipelines.dataset.rows import ClipRow

STEP_DEGREES = 5
"""Angles are counted at the nearest multiple of this."""

PoseCounts = Mapping[str, Mapping[str, int]]
"""Frames by "yaw" and by "pitch" (degrees), clips by number of "frames"; keys are whole numbers as JSON has them."""


def count_poses(rows: Sequence[ClipRow]) -> dict[str, dict[str, int]]:
    """The spread of some clips."""
    return {
        "yaw": _steps(angle for row in rows for angle in row.yaw),
        "pitch": _steps(angle for row in rows for angle in row.pitch),
        "frames": _counted(len(row.frame_jpeg) for row in rows),
    }


def _steps(angles: Iterable[float]) -> dict[str, int]:
    return _counted(STEP_DEGREES * round(angle / STEP_DEGREES) for angle in angles)


def _counted(values: Iterable[int]) -> dict[str, int]:
    counter = Counter(values)
    return {str(value): counter[value] for value in sorted(counter)}


def sum_counts(spreads: Iterable[PoseCounts], name: str) -> dict[int, int]:
    """One of the three counts over several shards: value -> number, ascending."""
    total: Counter[int] = Counter()
    for spread in spreads:
        for value, number in spread.get(name, {}).items():
            total[int(value)] += number
    return dict(sorted(total.items()))


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The least value that `share` (0-1) of the counted things do not exceed. Raises ValueError without any."""
    values = sorted(counts)
    sums = list(itertools.accumulate(counts[value] for value in values))
    if not sums or sums[-1] < 1:
        raise ValueError("nothing was counted: there is no quantile")
    return values[min(bisect.bisect_left(sums, share * sums[-1]), len(values) - 1)]
