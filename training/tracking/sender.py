"""A thread that brings records to the log in order, and keeps them in a journal as long as the log is away.

Every record is in the journal before it is sent, so a kill loses none that the thread had taken. A record may be sent
twice, by a kill between the log's yes and the journal's: whoever delivers makes that harmless (see
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
_MOST_POINTS = 1000  # of one request: MLflow's limit
_PATIENCE_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Unreachable(Exception):
    """The log did not take a record now; later it may."""


class Refused(Exception):
    """The log will never take this record."""


class Destination(Protocol):
    """Where records go."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Take one record, or several metrics at once. Raises Unreachable or Refused."""


class Sender:
    """Takes records from any thread without waiting."""

    def __init__(
        self, journal: PendingRecords, connect: Callable[[], Destination], retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """Begin.

        Args:
            connect: the first contact; raises Unreachable. Tried again until it succeeds.
            retry_seconds: pause after the log was away.
        """
        self.pending, self._connect, self._retry_seconds = journal, connect, retry_seconds
        self._inbox: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._unwritten: list[Record] = []
        self._destination: Destination | None = None
        self._closing = threading.Event()
        self._progressed_at = time.monotonic()
        self._next_try = 0.0
        self.away = ""
        """Why the log does not take records at present; empty while it does."""
        self.tried = threading.Event()
        """The first contact succeeded or failed."""
        self.num_refused = 0
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        self._inbox.put(record)

    def close(self, patience_seconds: float = _PATIENCE_SECONDS) -> int:
        """Send what there is; returns the number of records that the journal keeps.

        Waits as long as the log takes records, and no longer than `patience_seconds` for one of them.
        """
        self._progressed_at = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._progressed_at < patience_seconds:
            self._thread.join(0.1)
        return self.pending.count() + len(self._unwritten) + self._inbox.qsize()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._keep(self._taken(0.0 if closing else _GATHER_SECONDS))
            if closing or time.monotonic() >= self._next_try:
                self._send()
                self.tried.set()
            if closing and self._inbox.empty():
                return

    def _taken(self, wait_seconds: float) -> list[Record]:
        """What has come in; waits for the first."""
        taken: list[Record] = []
        try:
            taken.append(self._inbox.get(timeout=wait_seconds) if wait_seconds else self._inbox.get_nowait())
            while True:
                taken.append(self._inbox.get_nowait())
        except queue.Empty:
            return taken

    def _keep(self, records: Sequence[Record]) -> None:
        self._unwritten += records
        if not self._unwritten:
            return
        try:
            self.pending.add(self._unwritten)
            self._unwritten = []
        except OSError as error:
            # They stay in memory, and the next records bring the next try.
            logger.warning("the journal does not take records: %s", error)

    def _send(self) -> None:
        try:
            if self._destination is None:
                self._destination = self._connect()
            while len(self.pending):
                self._send_first()
                self.pending.drop_first()
            self._deliver(self._unwritten)
            self._unwritten = []
            if self.away:
                logger.warning("MLflow is back: what was kept has been sent")
            self.away = ""
        except (Unreachable, OSError) as error:
            if not self.away:
                logger.warning("MLflow is away, training goes on and the log is kept: %s", error)
            self.away = str(error) or type(error).__name__
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
    """One by one, but neighbouring metrics together: after an outage there are thousands."""
    batch: list[Record] = []
    points = 0
    for record in records:
        more = len(record.values) if isinstance(record, Metrics) else 0
        if batch and (not more or points + more > _MOST_POINTS):
            yield batch
            batch, points = [], 0
        if more:
            batch.append(record)
            points += more
        else:
            yield [record]
    if batch:
        yield batch
