from typing import Any

import numpy as np
import pytest

from pipelines.curation.histograms import Easing, histogram, near_misses, pose_coverage
from pipelines.preprocess.quality import QualityRule


def test_a_histogram_counts_every_finite_value() -> None:
    values = np.array([*range(100), np.nan, np.inf], dtype=np.float64)
    found = histogram(values)
    assert found is not None
    assert (found.total, len(found.counts), found.median, found.low, found.high) == (100, 30, 49.5, 0, 99)
    assert found.median_at == pytest.approx(0.5)


def test_outliers_count_in_the_last_bins_without_stretching_them() -> None:
    values = np.concatenate([np.linspace(0, 1, 3000), [1e6]])
    found = histogram(values)
    assert found is not None
    assert found.edges[-1] < 2
    assert (found.total, found.high) == (3001, 1e6)


def test_whole_numbers_have_bins_of_their_own() -> None:
    found = histogram(np.array([16.0, 16.0, 12.0]), whole=True)
    assert found is not None
    bins = {
        (low + high) / 2: count for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False)
    }
    assert {value: count for value, count in bins.items() if count} == {12: 1, 16: 2}
    assert len(bins) == 9
    assert found.ticks == (min(bins), sorted(bins)[4], max(bins))
    many = histogram(np.arange(1000, dtype=np.float64), whole=True)
    assert many is not None
    assert (many.total, len(many.counts) <= 31) == (1000, True)


def test_logarithmic_bins_grow_in_proportion() -> None:
    found = histogram(np.array([1.0, 10.0, 100.0]), logarithmic=True)
    assert found is not None
    ratios = np.diff(np.log(found.edges))
    assert ratios == pytest.approx(ratios[0])
    assert found.median_at == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_equal_values_and_none_at_all_are_fine(logarithmic: bool) -> None:
    found = histogram(np.full(5, 3.0), logarithmic=logarithmic)
    assert found is not None
    assert found.total == 5
    assert histogram(np.array([np.nan]), logarithmic=logarithmic) is None


def test_poses_are_counted_by_yaw_and_pitch() -> None:
    found = pose_coverage(np.array([0.0, 2.0, -90.0, 59.0, np.nan]), np.array([0.0, 4.9, 39.0, -80.0, 0.0]))
    assert found.counts.shape == (16, 24)
    assert found.counts.sum() == 4
    up, down = found.counts[0], found.counts[-1]
    assert (up[0], down[-1]) == (1, 1)  # beyond the edges: far left looking up, far right looking down
    assert found.counts[7, 12] == 2  # pitch 0 to 5, yaw 0 to 5
    assert (found.pitch[7], found.pitch[8], found.yaw[12], found.yaw[13]) == (5, 0, 0, 5)
    assert found.frontal_share == 0.5
    assert found.cells_filled == pytest.approx(3 / 384)
    assert pose_coverage(np.zeros(0), np.zeros(0)).frontal_share == 0


def reject(code: str, frames: int | None, size: float | None, sharpness: float | None) -> dict[str, Any]:
    return {"code": code, "frames_with_face": frames, "face_size": size, "sharpness": sharpness}


def test_refused_clips_are_evaluated_again_by_their_measures() -> None:
    rule = QualityRule(min_frames=8, min_face=32.0, min_sharpness=4.0)
    rejects = [
        reject("too_few_frames", 7, None, None),  # passes at 7; what else is wrong is not known
        reject("too_few_frames", 5, 40.0, 9.0),  # passes at 5, nothing else is wrong
        reject("too_few_frames", 7, 20.0, None),  # too small, too: no lower number of frames lets it through
        reject("too_small", 9, 25.0, None),  # passes at 24, unless it is blurred
        reject("too_small", 9, 10.0, None),
        reject("blurred", 9, 50.0, 3.5),  # passes at 3.6 not, at 3 it does
        reject("blurred", 9, 50.0, None),  # an older row without the measure: nothing says that it would pass
        reject("no_face", 0, None, None),
        reject("unreadable", None, None, None),
    ]
    frames, face, sharpness = near_misses(rule, rejects)
    assert [threshold.num_refused for threshold in (frames, face, sharpness)] == [3, 2, 2]
    assert frames.easings == (
        Easing(7.0, 1, 1),
        Easing(6.0, 1, 1),
        Easing(4.0, 2, 1),
        Easing(2.0, 2, 1),
        Easing(1.0, 2, 1),
    )
    assert face.easings == (
        Easing(28.8, 0, 0),
        Easing(24.0, 1, 1),
        Easing(16.0, 1, 1),
        Easing(8.0, 2, 2),
        Easing(0.0, 2, 2),
    )
    assert [easing.num_through for easing in sharpness.easings] == [0, 1, 1, 1, 1]
    assert sharpness.easings[1] == Easing(3.0, 1, 0)


def test_without_rejects_nothing_is_let_through() -> None:
    assert all(easing.num_through == 0 for threshold in near_misses(QualityRule(), []) for easing in threshold.easings)
