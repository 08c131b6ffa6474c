"""Order, outages and ends, with a log made of a list."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipelines import storage
from training.tracking.pending_records import PendingRecords
from training.tracking.records import Metrics, Record, Tags, Text
from training.tracking.sender import Refused, Sender, Unreachable


def tag(name: str) -> Tags:
    return Tags({"name": name})


class Log:
    """Takes records while `up`; counts contacts and requests."""

    def __init__(self, *, up: bool = True) -> None:
        self.up, self.contacts, self.got = up, 0, list[list[Record]]()
        self.refused: Sequence[Record] = ()
        self.hold = threading.Event()
        self.hold.set()

    def connect(self) -> "Log":
        self.contacts += 1
        self._check()
        return self

    def deliver(self, records: Sequence[Record]) -> None:
        self._check()
        if records[0] in self.refused:
            raise Refused("too long")
        self.got.append(list(records))

    def _check(self) -> None:
        self.hold.wait()
        if not self.up:
            raise Unreachable("nobody listens")

    @property
    def flat(self) -> list[Record]:
        return [record for batch in self.got for record in batch]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "sender":
            thread.join(5)
    assert not any(thread.name == "sender" for thread in threading.enumerate())


def wait_until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_records_arrive_in_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    log = Log()
    sender = Sender(PendingRecords(str(tmp_path / "journal")), log.connect)
    names = [str(number) for number in range(20)]
    for name in names:
        sender.put(tag(name))
    assert sender.close() == 0
    assert log.flat == [tag(name) for name in names]
    assert storage.list(str(tmp_path)) == []


@pytest.mark.slow
def test_neighbouring_metrics_go_together_up_to_a_thousand_points(tmp_path: Path) -> None:
    log = Log(up=False)
    sender = Sender(PendingRecords(str(tmp_path)), log.connect, retry_seconds=0.0)
    metrics = [Metrics(step, {f"m{i}": 1.0 for i in range(40)}, step) for step in range(30)]
    for record in (*metrics, tag("between"), metrics[0]):
        sender.put(record)
    wait_until(lambda: sender.outage)
    log.up = True
    assert sender.close() == 0
    assert [len(batch) for batch in log.got] == [25, 5, 1, 1]
    assert log.flat == [*metrics, tag("between"), metrics[0]]


@pytest.mark.slow
def test_67_a_log_that_is_away_gets_all_of_it_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(up=False)
    with caplog.at_level(logging.WARNING, "training.tracking.sender"):
        sender = Sender(PendingRecords(str(tmp_path)), log.connect, retry_seconds=0.01)
        sender.put(tag("a"))
        wait_until(lambda: log.contacts >= 2)
        log.up = True
        wait_until(lambda: log.got and not sender.outage)
        log.up = False
        sender.put(tag("b"))
        wait_until(lambda: sender.outage)
        log.up = True
        sender.put(tag("c"))
        assert sender.close() == 0
    assert log.flat == [tag("a"), tag("b"), tag("c")]
    said = [record.message for record in caplog.records]
    assert [line.partition(",")[0] for line in said] == [
        "MLflow is away",
        "MLflow is back: what was kept has been sent",
        "MLflow is away",
        "MLflow is back: what was kept has been sent",
    ]


def test_67_putting_a_record_does_not_wait_for_a_log_that_hangs(tmp_path: Path) -> None:
    log = Log()
    log.hold.clear()
    sender = Sender(PendingRecords(str(tmp_path)), log.connect)
    for number in range(100):
        sender.put(tag(str(number)))  # it would hang here
    assert sender.close(patience_seconds=0.05) == 100  # nor does the end wait for ever
    log.hold.set()
    wait_until(lambda: len(log.flat) == 100)


def test_67_what_is_left_at_the_end_is_sent_by_the_next_start(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    first = Sender(PendingRecords(url), Log(up=False).connect)
    first.put(tag("a"))
    first.put(tag("b"))
    assert first.close() == 2
    assert first.outage == "nobody listens"
    log = Log()
    second = Sender(PendingRecords(url), log.connect)
    second.put(tag("c"))
    assert second.close() == 0
    assert log.flat == [tag("a"), tag("b"), tag("c")]


@pytest.mark.slow
def test_a_log_that_is_away_is_not_asked_at_every_record(tmp_path: Path) -> None:
    log = Log(up=False)
    sender = Sender(PendingRecords(str(tmp_path)), log.connect, retry_seconds=60.0)
    sender.put(tag("a"))
    wait_until(lambda: sender.outage)
    for name in "bc":
        sender.put(tag(name))
        time.sleep(0.02)
    assert log.contacts == 1
    assert sender.close() == 3
    assert log.contacts == 2  # once more at the end


def test_a_record_that_is_refused_is_set_aside_and_blocks_nothing(tmp_path: Path) -> None:
    log = Log()
    log.refused = [Text("x", "long")]
    sender = Sender(PendingRecords(str(tmp_path)), log.connect)
    for record in (tag("a"), Text("x", "long"), tag("b")):
        sender.put(record)
    assert sender.close() == 0
    assert log.flat == [tag("a"), tag("b")]
    assert sender.num_refused == 1
    (kept,) = (tmp_path / "refused").iterdir()
    assert '"long"' in kept.read_text()


def test_a_damaged_segment_is_set_aside_and_blocks_nothing(tmp_path: Path) -> None:
    PendingRecords(str(tmp_path)).add([tag("a")])
    (segment,) = tmp_path.iterdir()
    segment.write_text("{")
    log = Log()
    sender = Sender(PendingRecords(str(tmp_path)), log.connect)
    sender.put(tag("b"))
    assert sender.close() == 0
    assert log.flat == [tag("b")]
    assert (tmp_path / "refused" / segment.name).read_text() == "{"


def test_a_journal_that_takes_nothing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk beside a log that is there; then beside one that is away."""
    journal = PendingRecords(str(tmp_path))

    def full(records: Sequence[Record]) -> None:
        raise OSError(28, "No space left on device", "journal")

    monkeypatch.setattr(journal, "add", full)
    log = Log(up=False)
    sender = Sender(journal, log.connect, retry_seconds=0.0)
    sender.put(tag("a"))
    wait_until(lambda: sender.outage)
    log.up = True
    sender.put(tag("b"))
    assert sender.close() == 0
    assert log.flat == [tag("a"), tag("b")]
