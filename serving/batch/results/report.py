"""What became of every video: rows in Parquet files that are added to a folder while a run goes on."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage

FOLDER = "report"
MAX_ROWS = 100
MAX_SECONDS = 30.0

Status = Literal["done", "skipped", "failed"]

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("driver", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("video", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("frames", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("csim", pa.float64()),
        pa.field("bent_share", pa.float64()),
        pa.field("missing_share", pa.float64()),
        pa.field("worker", pa.string()),
        pa.field("started_at", _TIME),
        pa.field("finished_at", _TIME),
    ]
)


@dataclass(frozen=True)
class Row:
    """One video of a run. An input that cannot be read has a row, too: without a driver, or without a source."""

    item: str
    """Name of the video's files; for an input that cannot be read, its path or URL."""
    status: Status
    source: str | None = None
    driver: str | None = None
    reason: str | None = None
    """Of a failure, one line."""
    video: str | None = None
    """Path or URL of the finished video."""
    seconds: float | None = None
    """Time that the worker took in this run; None for a skipped video."""
    frames: int | None = None
    fps: float | None = None
    csim: float | None = None
    """This and the next two: see `sidecars.Quality`."""
    bent_share: float | None = None
    missing_share: float | None = None
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Report:
    """Adds rows to the folder `report/` below `out`, a file for every `MAX_ROWS` or `MAX_SECONDS`."""

    def __init__(self, out: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
        """Name of this run in the column `run`; names sort by time."""
        self.rows: list[Row] = []
        """All rows of this run."""
        self._out, self._clock = out, clock
        self._num_written = 0
        self._num_files = 0
        self._oldest = 0.0

    def add(self, *rows: Row) -> None:
        """Add rows; write a file when it is time."""
        if len(self.rows) == self._num_written:
            self._oldest = self._clock()
        self.rows += rows
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Write the waiting rows if there are `MAX_ROWS`, or the oldest has waited for `MAX_SECONDS`."""
        num_waiting = len(self.rows) - self._num_written
        if num_waiting >= MAX_ROWS or (num_waiting and self._clock() - self._oldest >= MAX_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows to a file of their own, atomically."""
        waiting = self.rows[self._num_written :]
        if not waiting:
            return
        table = pa.Table.from_pylist([{"run": self.run, **vars(row)} for row in waiting], SCHEMA)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        storage.write_bytes(
            storage.join(self._out, FOLDER, f"{self.run}-{self._num_files:05d}.parquet"), sink.getvalue()
        )
        self._num_files += 1
        self._num_written += len(waiting)
