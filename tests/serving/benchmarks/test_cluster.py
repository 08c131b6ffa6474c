"""Figures of `sfumato bench cluster` that can be worked out by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from serving.benchmarks.cluster import Options, _logged, _ratios


def test_two_nodes_are_compared_with_one() -> None:
    assert _ratios("meta-train", {"images a second": 2.0}, {"images a second": 3.8}) == {
        "two workers over twice one": pytest.approx(0.95)
    }
    one = {"seconds": 90.0, "seconds of the command": 110.0}
    two = {"seconds": 50.0, "seconds of the command": 88.0}
    assert list(_ratios("animate", one, two).values()) == [1.8, 1.25]


def test_the_log_of_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "mlflow.db"
    assert _logged(log) == []
    with closing(sqlite3.connect(log)) as database:
        assert _logged(log) == []
        database.execute("create table metrics (key text, step integer, value real)")
        rows = [("images_per_second", 20, 2.5), ("generator", 10, 9.0), ("images_per_second", 10, 1.5)]
        database.executemany("insert into metrics values (?, ?, ?)", rows)
        database.commit()
    assert _logged(log) == [(10, 1.5), (20, 2.5)]


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"frames": 0}, {"max_size": 0}, {"steps": 29}])
def test_there_is_something_to_measure(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Options("animate", **wrong)
