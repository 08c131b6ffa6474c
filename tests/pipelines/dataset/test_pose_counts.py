import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.dataset.pose_counts import count_poses, quantile, sum_counts


def test_angles_are_counted_at_the_nearest_five_degrees(make_row: Callable[..., Any]) -> None:
    row = dataclasses.replace(make_row("a", "v", "c", 4), yaw=(-7.4, -2.6, 2.4, 7.6), pitch=(0.1, -0.1, 12.6, 180.0))
    assert count_poses([row, make_row("a", "v", "d", 2)]) == {
        "yaw": {"-10": 2, "-5": 2, "0": 1, "10": 1},  # the second row's -10 and -7.5 both count at -10
        "pitch": {"0": 4, "15": 1, "180": 1},
        "frames": {"2": 1, "4": 1},
    }


def test_spreads_add_up() -> None:
    assert sum_counts([{"yaw": {"5": 2, "-5": 1}}, {"yaw": {"5": 1}}, {}], "yaw") == {-5: 1, 5: 3}


def test_a_quantile_is_the_least_value_that_the_share_does_not_exceed() -> None:
    counts = {-10: 1, 0: 8, 10: 1}
    assert [quantile(counts, share) for share in (0.0, 0.1, 0.11, 0.5, 0.9, 0.91, 1.0)] == [-10, -10, 0, 0, 0, 10, 10]
    with pytest.raises(ValueError, match="nothing was counted"):
        quantile({}, 0.5)
