"""A store in memory that answers every request after a while, and counts them: `slow://`."""

from __future__ import annotations

import threading
import time
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class SlowStore(MemoryFileSystem):
    """Its files are those of `memory://`. Class attributes, because fsspec keeps instances."""

    protocol = "slow"
    cachable = True
    latency_s = 0.0
    num_requests = 0
    num_bytes = 0
    most_at_once = 0
    _at_once = 0
    _lock = threading.Lock()

    @classmethod
    def reset(cls, latency_s: float) -> None:
        cls.latency_s, cls.num_requests, cls.num_bytes, cls.most_at_once = latency_s, 0, 0, 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("slow://", "memory://"))

    @classmethod
    def _count(cls, num_bytes: int = 0) -> None:
        with cls._lock:
            cls.num_requests += 1
            cls.num_bytes += num_bytes
            cls._at_once += 1
            cls.most_at_once = max(cls.most_at_once, cls._at_once)
        time.sleep(cls.latency_s)
        with cls._lock:
            cls._at_once -= 1

    def info(self, path: str, **more: Any) -> Any:
        self._count()
        return super().info(path, **more)

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._count()
        return super().ls(path, detail=detail, **more)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        data: bytes = super().cat_file(path, start=start, end=end, **more)
        self._count(len(data))
        return data

    def cat_ranges(self, paths: Any, starts: Any, ends: Any, **more: Any) -> Any:
        """As stores do that are asked asynchronously: all ranges at once."""
        pieces = [MemoryFileSystem.cat_file(self, *each) for each in zip(paths, starts, ends, strict=True)]
        self._count(sum(map(len, pieces)))
        return pieces


fsspec.register_implementation("slow", SlowStore, clobber=True)
