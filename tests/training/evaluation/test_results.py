"""Intervals against scipy, tables by hand, and results that come back from their bytes."""

import math

import numpy as np
import pytest
import scipy.stats

from training.evaluation.results import Figure, Row, VideoResult, make_tables, pack, student_t, unpack


def _result(name: str, rows: list[tuple[int, str, float]]) -> VideoResult:
    made = tuple(
        Row(shots, method, {"lpips": value}, np.full((2, 3), value, np.float32), (b"picture",))
        for shots, method, value in rows
    )
    return VideoResult(name, "", 2, (b"shot",), (b"one", b"two"), made)


@pytest.mark.parametrize("degrees", [1, 2, 7, 20, 21, 49, 400])
def test_students_t_is_scipys(degrees: int) -> None:
    assert student_t(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), abs=5e-4)


def test_figures_by_hand() -> None:
    figure = Figure.of([1.0, 2.0, math.nan, 3.0])
    assert figure is not None
    assert (figure.mean, figure.num) == (2.0, 3)
    low, high = scipy.stats.t.interval(0.95, 2, loc=2.0, scale=1 / math.sqrt(3))
    assert figure.half_width == pytest.approx((high - low) / 2, rel=1e-4)
    assert Figure.of([4.0]) == Figure(4.0, None, 1)
    assert Figure.of([math.nan, math.inf]) is None


def test_tables_hold_the_videos_that_have_their_t() -> None:
    long = _result("long", [(1, "truth", 0.0), (1, "ours", 0.2), (8, "truth", 0.0), (8, "ours", 0.1)])
    short = _result("short", [(1, "truth", 0.0), (1, "ours", 0.4)])
    one, eight = make_tables(
        [long, short], ["lpips"], truth="truth", distance=lambda ours, true: float(ours.sum() - true.sum())
    )
    assert [(table.num_shots, table.num_videos, table.num_frames) for table in (one, eight)] == [(1, 2, 4), (8, 1, 2)]
    truth, ours = one.rows
    assert (truth.method, ours.method, ours.num_frames) == ("truth", "ours", 4)
    assert ours.figures["lpips"] is not None
    assert ours.figures["lpips"].mean == pytest.approx(0.3)
    assert ours.frechet == pytest.approx(6 * 0.2 + 6 * 0.4)


def test_a_result_comes_back_from_its_bytes_and_others_are_refused() -> None:
    result = _result("ann/v1", [(1, "truth", math.nan), (1, "ours", 0.25)])
    back = unpack(pack(result))
    assert (back.name, back.num_frames, back.shots, back.targets) == ("ann/v1", 2, (b"shot",), (b"one", b"two"))
    assert [(row.num_shots, row.method, row.pictures) for row in back.rows] == [
        (1, "truth", (b"picture",)),
        (1, "ours", (b"picture",)),
    ]
    assert math.isnan(back.rows[0].values["lpips"])
    np.testing.assert_array_equal(back.rows[1].features, result.rows[1].features)
    for other in (b"", b"text", pack(result)[:200]):
        with pytest.raises(ValueError, match="no result of an evaluation"):
            unpack(other)
