"""What the reports of shards say, as metrics for Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipelines.dataset.shard_report import ShardReport

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class ReportMetrics:
    """Sums over the shards that are done. Threads may add and collect at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_planned = self._num_shards = 0
        self._shards_done = set[int]()
        self._clips, self._codes, self._seconds = Counter[str](), Counter[str](), Counter[str]()
        self._num_frames = 0

    def plan(self, num_clips: int, num_shards: int) -> None:
        """Say how large the whole data set is to be."""
        with self._lock:
            self._num_planned, self._num_shards = num_clips, num_shards

    def add(self, reports: Iterable[ShardReport]) -> None:
        """Count the reports of shards that are not counted yet."""
        with self._lock:
            for report in reports:
                if report.shard in self._shards_done:
                    continue
                self._shards_done.add(report.shard)
                self._clips.update(done=report.num_done, rejected=report.num_rejected, failed=report.num_failed)
                self._codes.update(report.codes)
                self._seconds.update(report.seconds)
                self._num_frames += report.num_frames

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            planned = (
                ("sfumato_preprocess_clips_planned", "Clips of the data set, done or not", self._num_planned),
                ("sfumato_preprocess_shards_planned", "Shards of the data set, done or not", self._num_shards),
            )
            made = (
                ("sfumato_preprocess_shards", "Shards that are done", len(self._shards_done)),
                ("sfumato_preprocess_frames", "Frames in the shards", self._num_frames),
            )
            sums = (
                ("sfumato_preprocess_clips", "Clips of shards that are done, by outcome", "outcome", {**self._clips}),
                ("sfumato_preprocess_clips_without_row", "Clips without a row, by reason", "code", {**self._codes}),
                ("sfumato_preprocess_stage_seconds", "Seconds of workers, by stage", "stage", {**self._seconds}),
            )
        for name, text, value in planned:
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, value in made:
            yield CounterMetricFamily(name, text, value=value)
        for name, text, label, values in sums:
            family = CounterMetricFamily(name, text, labels=[label])
            for key, value in sorted(values.items()):
                family.add_metric([key], value)
            yield family
