"""Figures of `sfumato bench serve` that can be worked out by hand."""

from __future__ import annotations

import pytest

from serving.benchmarks.serve import Options, percentile


@pytest.mark.parametrize(("share", "expected"), [(50, 2.0), (75, 3.0), (99, 4.0), (1, 1.0)])
def test_a_percentile_is_one_of_the_values(share: int, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"requests": 0}, {"idle_s": 0.0}])
def test_there_is_something_to_measure(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Options(**wrong)
