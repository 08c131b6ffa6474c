"""The last logged metrics of a training, for Prometheus. MLflow has their history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CHECKPOINT_PAUSE, CHECKPOINT_WRITE = "checkpoint_pause_seconds", "checkpoint_write_seconds"
"""Names under which the first worker logs the times of its last checkpoint."""
_GAUGES = {
    "images_per_second": ("images_per_second", "Episodes a second, over all workers"),
    "data_wait_share": ("data_wait_ratio", "Share of the time in which the first worker waits for data, 0 to 1"),
    "workers": ("workers", "Workers that train"),
    CHECKPOINT_PAUSE: ("checkpoint_pause_seconds", "Time for which the last checkpoint held up the steps"),
    CHECKPOINT_WRITE: ("checkpoint_write_seconds", "Time in which the last checkpoint was written, beside the steps"),
}
_COUNTERS = {
    "skipped_steps": ("skipped_steps", "Steps skipped for gradients that were not finite, over restarts"),
    "rollbacks": ("rollbacks", "Returns to the last checkpoint, over restarts"),
}
_NO_LOSS = ("learning_rate", "system/")


class TrainingMetrics:
    """Keeps what was logged last."""

    def __init__(self, num_steps: int) -> None:
        """`num_steps` is the step at which the run ends."""
        self._num_steps = num_steps
        self._step, self._values = 0, dict[str, float]()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a step, by their names in MLflow."""
        self._step, self._values = step, dict(values)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics now; those of a training that has not logged yet are left out."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        step, values = self._step, self._values
        yield GaugeMetricFamily("sfumato_training_last_step", "Step at which the run ends", value=self._num_steps)
        if not values:
            return
        yield GaugeMetricFamily("sfumato_training_step", "Last logged step", value=step)
        for name, (exported, text) in _GAUGES.items():
            if name in values:
                yield GaugeMetricFamily(f"sfumato_training_{exported}", text, value=values[name])
        for name, (exported, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"sfumato_training_{exported}", text, value=values.get(name, 0.0))
        losses = GaugeMetricFamily(
            "sfumato_training_loss", "Mean of a term since the step logged before", labels=["term"]
        )
        known = {*_GAUGES, *_COUNTERS}
        for name, value in sorted(values.items()):
            if name not in known and not name.startswith(_NO_LOSS):
                losses.add_metric([name], value)
        yield losses
