"""Records not yet accepted by MLflow: an ordered queue of small files in the run's folder."""

import contextlib
from collections.abc import Sequence

from pipelines import storage
from training.tracking.records import Record, decode, encode

_SEGMENT_BYTES = 256 * 1024  # a segment is rewritten for each record added: this bounds the cost
_SUFFIX = ".jsonl"
_REFUSED = "refused"


class PendingRecords:
    """A first-in, first-out queue of records on any storage, for one process at a time.

    Segments are written whole and atomically: a killed process leaves the old segment or the new one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        files = [name for name in storage.list(url) if name.endswith(_SUFFIX)]
        self._segments = [name for name in files if storage.parent(name) == url.rstrip("/")]
        self._next = 1 + max((_number(name) for name in files), default=0)
        self._tail: list[Record] = []
        """Content of the last segment, if this object created it."""
        self._tail_bytes = 0

    def add(self, records: Sequence[Record]) -> None:
        """Append records. Raises OSError if writing fails."""
        size = len(encode(records))
        fits = bool(self._tail) and self._tail_bytes + size <= _SEGMENT_BYTES
        segment = self._segments[-1] if fits else storage.join(self.url, f"{self._next:09d}{_SUFFIX}")
        tail = [*self._tail, *records] if fits else [*records]
        storage.write_bytes(segment, encode(tail))
        if not fits:
            self._segments.append(segment)
            self._next += 1
        self._tail, self._tail_bytes = tail, self._tail_bytes * fits + size

    def first(self) -> list[Record]:
        """Return the records of the oldest segment; none if the queue is empty.

        Raises:
            ValueError: the segment is damaged.
        """
        return decode(storage.read_bytes(self._segments[0]), self._segments[0]) if self._segments else []

    def drop_first(self) -> None:
        """Remove the oldest segment, after its records were delivered."""
        storage.remove(self._segments.pop(0))
        if not self._segments:
            self._tail, self._tail_bytes = [], 0

    def set_aside(self, records: Sequence[Record]) -> str:
        """Write records that MLflow rejects to a separate folder; return the file's path or URL."""
        url = storage.join(self.url, _REFUSED, f"{self._next:09d}{_SUFFIX}")
        self._next += 1
        storage.write_bytes(url, encode(records))
        return url

    def copy_first_aside(self) -> str:
        """Copy the oldest segment, which is damaged, to a separate folder; return the copy's path or URL."""
        segment = self._segments[0]
        url = storage.join(self.url, _REFUSED, segment.rpartition("/")[2])
        storage.write_bytes(url, storage.read_bytes(segment))
        return url

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._segments)

    def count(self) -> int:
        """Count the records by reading all segments; another thread may remove some meanwhile."""
        number = 0
        for segment in [*self._segments]:
            with contextlib.suppress(FileNotFoundError):
                number += len(storage.read_bytes(segment).splitlines())
        return number


def _number(segment: str) -> int:
    digits = segment.rpartition("/")[2].removesuffix(_SUFFIX)
    return int(digits) if digits.isdigit() else 0
