"""Counts of a batch's report as metrics."""

from __future__ import annotations

from pathlib import Path

from web.scraping import samples

from serving.batch.results.batch_metrics import BatchMetrics
from serving.batch.results.report import Report, Row


def test_rows_are_counted_by_status_and_videos_timed(tmp_path: Path) -> None:
    report = Report(str(tmp_path))
    metrics = BatchMetrics(report, 9)
    report.add(
        Row("a", "done", seconds=4.0, frames=100),
        Row("b", "done", seconds=41.0, frames=50),
        Row("c", "skipped", frames=700),
        Row("d", "failed", reason="no face", seconds=1.0),
    )
    found = samples(metrics.collect())
    buckets = {key[1]: value for key, value in found.items() if key[0].endswith("_bucket")}
    assert {key: value for key, value in found.items() if not key[0].endswith("_bucket")} == {
        ("sfumato_animate_videos_planned",): 9,
        ("sfumato_animate_videos_total", "status=done"): 2,
        ("sfumato_animate_videos_total", "status=skipped"): 1,
        ("sfumato_animate_videos_total", "status=failed"): 1,
        ("sfumato_animate_frames_total",): 150,
        ("sfumato_animate_video_seconds_count",): 2,
        ("sfumato_animate_video_seconds_sum",): 45,
    }
    assert (buckets["le=5.0"], buckets["le=40.0"], buckets["le=80.0"], buckets["le=+Inf"]) == (1, 1, 2, 2)
