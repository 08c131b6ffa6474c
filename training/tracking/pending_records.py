"""Records on disk until the log has taken them: a folder of small files, in order, below the run's own folder."""

import contextlib
from collections.abc import Sequence

from pipelines import storage
from training.tracking.records import Record, decode, encode

_SEGMENT_BYTES = 256 * 1024  # an object is written whole: this bounds what one more record costs
_SUFFIX = ".jsonl"
_REFUSED = "refused"


class PendingRecords:
    """Records in the order they were added, on any storage. One process at a time.

    Each segment is written whole and atomically: a kill leaves the old segment or the new one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        files = [name for name in storage.list(url) if name.endswith(_SUFFIX)]
        self._segments = [name for name in files if storage.parent(name) == url.rstrip("/")]
        self._next = 1 + max((_number(name) for name in files), default=0)
        self._tail: list[Record] = []
        """What the last segment holds, if this object began it."""
        self._tail_bytes = 0

    def add(self, records: Sequence[Record]) -> None:
        """Keep records. Raises OSError when the storage refuses."""
        size = len(encode(records))
        joins = bool(self._tail) and self._tail_bytes + size <= _SEGMENT_BYTES
        segment = self._segments[-1] if joins else storage.join(self.url, f"{self._next:09d}{_SUFFIX}")
        tail = [*self._tail, *records] if joins else [*records]
        storage.write_bytes(segment, encode(tail))
        if not joins:
            self._segments.append(segment)
            self._next += 1
        self._tail, self._tail_bytes = tail, self._tail_bytes * joins + size

    def first(self) -> list[Record]:
        """The records of the oldest segment; none when all is taken.

        Raises:
            ValueError: the segment is damaged.
        """
        return decode(storage.read_bytes(self._segments[0]), self._segments[0]) if self._segments else []

    def drop_first(self) -> None:
        """Forget the oldest segment: its records are where they belong."""
        storage.remove(self._segments.pop(0))
        if not self._segments:
            self._tail, self._tail_bytes = [], 0

    def set_aside(self, records: Sequence[Record]) -> str:
        """Keep records that the log refuses where they block nothing; returns where."""
        url = storage.join(self.url, _REFUSED, f"{self._next:09d}{_SUFFIX}")
        self._next += 1
        storage.write_bytes(url, encode(records))
        return url

    def copy_first_aside(self) -> str:
        """Keep the oldest segment, which cannot be read, before it is dropped; returns where."""
        segment = self._segments[0]
        url = storage.join(self.url, _REFUSED, segment.rpartition("/")[2])
        storage.write_bytes(url, storage.read_bytes(segment))
        return url

    def __len__(self) -> int:
        """Segments not yet taken."""
        return len(self._segments)

    def count(self) -> int:
        """Records not yet taken. Reads them; another thread may take some meanwhile."""
        number = 0
        for segment in [*self._segments]:
            with contextlib.suppress(FileNotFoundError):
                number += len(storage.read_bytes(segment).splitlines())
        return number


def _number(segment: str) -> int:
    digits = segment.rpartition("/")[2].removesuffix(_SUFFIX)
    return int(digits) if digits.isdigit() else 0
