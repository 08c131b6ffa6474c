"""What passes between the command and its workers while they train; needs no Ray."""

from collections.abc import Mapping

from training.tracking.records import Record


class Control:
    """An actor between the command and the workers: progress out, the wish to stop in."""

    def __init__(self) -> None:
        self.step, self.metrics = 0, dict[str, float]()
        self.stop_wanted, self.stop_step, self.asked = False, -1, -1
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        """Keep a record until the command fetches it, which alone speaks to MLflow."""
        self.records.append(record)

    def take_records(self) -> list[Record]:
        taken, self.records = self.records, []
        return taken

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.step, self.metrics = step, dict(metrics)

    def progress(self) -> tuple[int, dict[str, float]]:
        return self.step, self.metrics

    def request_stop(self) -> None:
        self.stop_wanted = True

    def stop(self, step: int) -> bool:
        """The same answer to every worker that asks about a step: the first to ask after the wish decides."""
        if self.stop_wanted and self.stop_step < 0 and step > self.asked:
            self.stop_step = step
        self.asked = max(self.asked, step)
        return self.stop_step == step
