"""Counts of a data set's frames by head pose. Each shard's report holds its own counts, which can be summed."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipelines.dataset.rows import ClipRow

STEP_DEGREES = 5
"""Angles are rounded to the nearest multiple of this."""

PoseCounts = Mapping[str, Mapping[str, int]]
"""Number of frames by "yaw" and by "pitch" (degrees), of clips by number of "frames". Keys are integers as strings."""


def count_poses(rows: Sequence[ClipRow]) -> dict[str, dict[str, int]]:
    """Return the counts of some clips."""
    return {
        "yaw": _count_angles(angle for row in rows for angle in row.yaw),
        "pitch": _count_angles(angle for row in rows for angle in row.pitch),
        "frames": _count(len(row.frame_jpeg) for row in rows),
    }


def _count_angles(angles: Iterable[float]) -> dict[str, int]:
    return _count(STEP_DEGREES * round(angle / STEP_DEGREES) for angle in angles)


def _count(values: Iterable[int]) -> dict[str, int]:
    counter = Counter(values)
    return {str(value): counter[value] for value in sorted(counter)}


def sum_counts(spreads: Iterable[PoseCounts], name: str) -> dict[int, int]:
    """Sum one of the three counts over several shards: value -> number, ascending."""
    total: Counter[int] = Counter()
    for spread in spreads:
        for value, number in spread.get(name, {}).items():
            total[int(value)] += number
    return dict(sorted(total.items()))


def quantile(counts: Mapping[int, int], share: float) -> int:
    """Return the least value that `share` (0-1) of the counted items do not exceed. Raises ValueError for no items."""
    values = sorted(counts)
    sums = list(itertools.accumulate(counts[value] for value in values))
    if not sums or sums[-1] < 1:
        raise ValueError("nothing was counted: there is no quantile")
    return values[min(bisect.bisect_left(sums, share * sums[-1]), len(values) - 1)]
