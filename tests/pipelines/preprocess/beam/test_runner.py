"""Progress of a run, which is told by the reports of shards."""

import time
from pathlib import Path

import pytest
from web.scraping import samples

from pipelines import storage
from pipelines.cli import PROGRESS_SECONDS
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.dataset.shard_report import ShardReport
from pipelines.faces.crop import CropRule
from pipelines.preprocess.beam import runner
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.planned_shards import PlannedShard
from pipelines.preprocess.quality import QualityRule
from pipelines.preprocess.shard_worker import ShardSpec


def test_without_a_terminal_a_run_tells_how_many_clips_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PROGRESS_SECONDS, "0.05")
    monkeypatch.setattr(runner, "_POLL_SECONDS_OF_LINES", 0.01)
    config = ClipConfig(detector="mediapipe", crop=CropRule(), quality=QualityRule())
    shards = [
        PlannedShard(ShardSpec(str(tmp_path), "", "train", number, config, "", ""), num_clips)
        for number, num_clips in ((0, 3), (1, 4))
    ]
    seen, end = "", time.monotonic() + 5
    metrics = ReportMetrics()
    with runner.show_progress(shards, metrics):
        told = ShardReport("train", 1, "", "", 3, 1, 0, 0, 48, 16, 1, "", "", "", {"no_face": 1}, {"decode": 1.0})
        url = storage.join(str(tmp_path), shard_paths("train", 1).report)
        storage.write_bytes(url, told.to_json().encode())
        storage.write_bytes(storage.join(str(tmp_path), shard_paths("train", 7).report), b"of another run")
        while "preprocess: 4 of 7" not in seen:
            assert time.monotonic() < end, seen
            time.sleep(0.01)
            seen += capsys.readouterr().err
    assert {key: value for key, value in samples(metrics.collect()).items() if value} == {
        ("sfumato_preprocess_shards_total",): 1,
        ("sfumato_preprocess_frames_total",): 48,
        ("sfumato_preprocess_clips_total", "outcome=done"): 3,
        ("sfumato_preprocess_clips_total", "outcome=rejected"): 1,
        ("sfumato_preprocess_clips_without_row_total", "code=no_face"): 1,
        ("sfumato_preprocess_stage_seconds_total", "stage=decode"): 1,
    }
