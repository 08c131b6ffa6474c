"""What the report of a batch says so far, as metrics for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from serving.batch.results.report import Report, Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_STATUSES: tuple[Status, ...] = ("done", "skipped", "failed")
_BOUNDS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)  # seconds of a video


class BatchMetrics:
    """Counts the rows of a report."""

    def __init__(self, report: Report, num_planned: int) -> None:
        """`num_planned` is the number of videos to make or to skip."""
        self._report, self._num_planned = report, num_planned

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        rows = [*self._report.rows]
        yield GaugeMetricFamily("sfumato_animate_videos_planned", "Videos of the batch", value=self._num_planned)
        statuses = Counter(row.status for row in rows)
        videos = CounterMetricFamily("sfumato_animate_videos", "Videos of the batch that are ended", labels=["status"])
        for status in _STATUSES:
            videos.add_metric([status], statuses[status])
        yield videos
        done = [row for row in rows if row.status == "done"]
        frames = sum(row.frames or 0 for row in done)
        yield CounterMetricFamily("sfumato_animate_frames", "Frames of videos made in this run", value=frames)
        seconds = [row.seconds for row in done if row.seconds is not None]
        buckets = [(str(bound), sum(each <= bound for each in seconds)) for bound in _BOUNDS]
        yield HistogramMetricFamily(
            "sfumato_animate_video_seconds",
            "Seconds of a worker for a video",
            buckets=[*buckets, ("+Inf", len(seconds))],
            sum_value=sum(seconds),
        )
