"""State that the command and its workers exchange during training; plain Python, run as a Ray actor by ray_train."""

from collections.abc import Mapping

from training.tracking.records import Record


class Control:
    """Passes progress and records from the workers to the command, and a request to stop to the workers."""

    def __init__(self) -> None:
        self.step, self.metrics = 0, dict[str, float]()
        self.stop_requested, self.stop_step, self.last_step_asked = False, -1, -1
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        """Keep a record until the command fetches it; only the command connects to MLflow."""
        self.records.append(record)

    def take_records(self) -> list[Record]:
        """Return and clear the records."""
        taken, self.records = self.records, []
        return taken

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.step, self.metrics = step, dict(metrics)

    def progress(self) -> tuple[int, dict[str, float]]:
        return self.step, self.metrics

    def request_stop(self) -> None:
        self.stop_requested = True

    def stop(self, step: int) -> bool:
        """Return whether to stop after `step`, with the same answer for every worker.

        The first step that a worker asks about after the request, and that none asked about before it, is the last.
        """
        if self.stop_requested and self.stop_step < 0 and step > self.last_step_asked:
            self.stop_step = step
        self.last_step_asked = max(self.last_step_asked, step)
        return self.stop_step == step
