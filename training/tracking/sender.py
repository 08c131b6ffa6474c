"""A thread that delivers records to MLflow in order, and keeps them on disk while MLflow is unreachable.

Every record is on disk before it is sent, so that a killed process loses none that the thread has taken. If it is
killed between delivery and removal from disk, the record is sent again; delivery is idempotent (see
training.tracking.mlflow_client).
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from training.tracking.pending_records import PendingRecords
from training.tracking.records import Metrics, Record

RETRY_SECONDS = 15.0
_GATHER_SECONDS = 0.5
_MAX_POINTS = 1000  # per request; MLflow's limit
_PATIENCE_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Unreachable(Exception):
    """Delivery failed, and may succeed later."""


class Refused(Exception):
    """The record is invalid: delivery will never succeed."""


class Destination(Protocol):
    """Receiver of records."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Log one record, or several metrics at once. Raises Unreachable or Refused."""


class Sender:
    """Delivers records in a background thread; `put` never waits and may be called from any thread."""

    def __init__(
        self, pending: PendingRecords, connect: Callable[[], Destination], retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """Start the thread.

        Args:
            pending: the queue on disk; what it holds is sent first.
            connect: opens the destination, or raises Unreachable; retried until it succeeds.
            retry_seconds: pause between two attempts.
        """
        self.pending, self._connect, self._retry_seconds = pending, connect, retry_seconds
        self._inbox: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._unwritten: list[Record] = []
        self._destination: Destination | None = None
        self._closing = threading.Event()
        self._progressed_at = time.monotonic()
        self._next_try = 0.0
        self.outage = ""
        """Why records cannot be delivered at present; empty while they can."""
        self.tried = threading.Event()
        """Set after the first attempt to connect, whether it succeeded or failed."""
        self.num_refused = 0
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        self._inbox.put(record)

    def close(self, patience_seconds: float = _PATIENCE_SECONDS) -> int:
        """Send the remaining records; return the number that could not be delivered.

        Waits while records are being delivered, but at most `patience_seconds` for any one of them.
        """
        self._progressed_at = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._progressed_at < patience_seconds:
            self._thread.join(0.1)
        return self.pending.count() + len(self._unwritten) + self._inbox.qsize()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._store(self._receive(0.0 if closing else _GATHER_SECONDS))
            if closing or time.monotonic() >= self._next_try:
                self._send()
                self.tried.set()
            if closing and self._inbox.empty():
                return

    def _receive(self, wait_seconds: float) -> list[Record]:
        """Return the records that were put, waiting for the first."""
        received: list[Record] = []
        try:
            received.append(self._inbox.get(timeout=wait_seconds) if wait_seconds else self._inbox.get_nowait())
            while True:
                received.append(self._inbox.get_nowait())
        except queue.Empty:
            return received

    def _store(self, records: Sequence[Record]) -> None:
        self._unwritten += records
        if not self._unwritten:
            return
        try:
            self.pending.add(self._unwritten)
            self._unwritten = []
        except OSError as error:
            # They stay in memory; the next records trigger the next attempt.
            logger.warning("pending records for MLflow cannot be written: %s", error)

    def _send(self) -> None:
        try:
            if self._destination is None:
                self._destination = self._connect()
            while len(self.pending):
                self._send_first()
                self.pending.drop_first()
            self._deliver(self._unwritten)
            self._unwritten = []
            if self.outage:
                logger.warning("MLflow is back: what was kept has been sent")
            self.outage = ""
        except (Unreachable, OSError) as error:
            if not self.outage:
                logger.warning("MLflow is away, training goes on and the log is kept: %s", error)
            self.outage = str(error) or type(error).__name__
            self._next_try = time.monotonic() + self._retry_seconds

    def _send_first(self) -> None:
        try:
            records = self.pending.first()
        except ValueError as error:
            logger.warning("%s; set aside: %s", error, self.pending.copy_first_aside())
            return
        self._deliver(records)

    def _deliver(self, records: Sequence[Record]) -> None:
        assert self._destination is not None
        for batch in _batches(records):
            try:
                self._destination.deliver(batch)
            except Refused as error:
                self.num_refused += len(batch)
                logger.warning("MLflow refuses a record (%s); set aside: %s", error, self.pending.set_aside(batch))
            self._progressed_at = time.monotonic()


def _batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Split records into single ones, but combine neighbouring metrics: after an outage there are thousands."""
    batch: list[Record] = []
    points = 0
    for record in records:
        added = len(record.values) if isinstance(record, Metrics) else 0
        if batch and (not added or points + added > _MAX_POINTS):
            yield batch
            batch, points = [], 0
        if added:
            batch.append(record)
            points += added
        else:
            yield [record]
    if batch:
        yield batch
