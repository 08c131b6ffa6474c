"""Reuse buffers of decoded batches: a fresh allocation is zero-filled by the kernel, which costs about as much as
reading the batch.
"""

import math
import weakref
from typing import Any

import numpy as np


class BufferPool:
    """Allocates byte arrays, and reuses the memory of an array once it and all its views are garbage-collected."""

    def __init__(self) -> None:
        self._free: list[Any] = []

    def take(self, *shape: int) -> Any:
        """Return an array of uint8 with arbitrary content."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        if len(memory) != size:
            memory = np.empty(size, np.uint8)
        # Created through a memoryview, this array is the base of all its views and is collected after the last of them.
        array = np.frombuffer(memoryview(memory), np.uint8)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(shape)
