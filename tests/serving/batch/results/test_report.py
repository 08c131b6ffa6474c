"""The Parquet files of a report."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset

from serving.batch.results.report import SCHEMA, Report, Row


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def files(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "report").iterdir()) if (out / "report").exists() else []


def test_a_file_is_written_every_hundred_rows_and_the_rest_at_the_end(tmp_path: Path) -> None:
    report = Report(str(tmp_path), Clock())
    for number in range(230):
        report.add(Row(f"item-{number}", "done"))
    assert files(tmp_path) == [f"{report.run}-{number:05d}.parquet" for number in range(2)]
    report.flush()
    report.flush()
    assert len(files(tmp_path)) == 3
    table = pyarrow.dataset.dataset(tmp_path / "report").to_table()
    assert table.schema.equals(SCHEMA)
    assert sorted(table["item"].to_pylist()) == sorted(f"item-{number}" for number in range(230))


def test_rows_that_come_together_make_one_file(tmp_path: Path) -> None:
    report = Report(str(tmp_path), Clock())
    report.add(*(Row(f"item-{number}", "skipped") for number in range(1000)))
    assert len(files(tmp_path)) == 1
    assert pyarrow.dataset.dataset(tmp_path / "report").count_rows() == 1000


def test_no_row_waits_longer_than_thirty_seconds(tmp_path: Path) -> None:
    clock = Clock()
    report = Report(str(tmp_path), clock)
    clock.now = 100.0
    report.add(Row("slow", "done"))
    clock.now = 129.0
    report.flush_if_due()
    assert files(tmp_path) == []
    clock.now = 130.0
    report.flush_if_due()
    assert len(files(tmp_path)) == 1


def test_runs_add_to_one_folder_and_are_told_apart(tmp_path: Path) -> None:
    for status in ("failed", "done"):
        report = Report(str(tmp_path))
        report.add(Row("item", status, reason=None if status == "done" else "no face"))
        report.flush()
    (tmp_path / "report" / ".partial-1").write_bytes(b"left by a killed run")
    found = pyarrow.dataset.dataset(tmp_path / "report").to_table().sort_by("run").to_pylist()
    assert [(row["status"], row["reason"]) for row in found] == [("failed", "no face"), ("done", None)]


def test_a_run_without_items_writes_nothing(tmp_path: Path) -> None:
    Report(str(tmp_path)).flush()
    assert files(tmp_path) == []
