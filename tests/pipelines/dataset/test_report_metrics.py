"""Counts of shards' reports as metrics."""

from __future__ import annotations

from web.scraping import samples

from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.dataset.shard_report import ShardReport


def report(shard: int, done: int, codes: dict[str, int], seconds: dict[str, float]) -> ShardReport:
    return ShardReport(
        split="train",
        shard=shard,
        config_sha256="",
        spec_sha256="",
        num_done=done,
        num_rejected=sum(number for code, number in codes.items() if code != "io_error"),
        num_failed=codes.get("io_error", 0),
        num_retried=0,
        num_frames=16 * done,
        min_clip_frames=16,
        num_bytes=1,
        sha256="",
        index_sha256="",
        rejects_sha256="",
        codes=codes,
        seconds=seconds,
    )


def test_reports_are_summed_each_once() -> None:
    metrics = ReportMetrics()
    metrics.plan(12, 3)
    first = report(0, 3, {"no_face": 1, "io_error": 2}, {"decode": 1.5, "detect": 2.0})
    metrics.add([first])
    metrics.add([first, report(1, 4, {"no_face": 1}, {"decode": 0.25})])
    assert samples(metrics.collect()) == {
        ("sfumato_preprocess_clips_planned",): 12,
        ("sfumato_preprocess_shards_planned",): 3,
        ("sfumato_preprocess_shards_total",): 2,
        ("sfumato_preprocess_frames_total",): 16 * 7,
        ("sfumato_preprocess_clips_total", "outcome=done"): 7,
        ("sfumato_preprocess_clips_total", "outcome=rejected"): 2,
        ("sfumato_preprocess_clips_total", "outcome=failed"): 2,
        ("sfumato_preprocess_clips_without_row_total", "code=no_face"): 2,
        ("sfumato_preprocess_clips_without_row_total", "code=io_error"): 2,
        ("sfumato_preprocess_stage_seconds_total", "stage=decode"): 1.75,
        ("sfumato_preprocess_stage_seconds_total", "stage=detect"): 2.0,
    }
