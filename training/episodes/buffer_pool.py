"""Memory for batches of pictures: what is fresh the kernel clears first, at the price of reading the batch."""

import math
import weakref
from typing import Any

import numpy as np


class BufferPool:
    """Hands out arrays of bytes, and again the memory of those that nobody holds any more, whole or in part."""

    def __init__(self) -> None:
        self._free: list[Any] = []

    def take(self, *shape: int) -> Any:
        """An array of uint8 with any content."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        if len(memory) != size:
            memory = np.empty(size, np.uint8)
        # Through a memoryview, this array is the base of all its views: it dies with the last of them.
        array = np.frombuffer(memoryview(memory), np.uint8)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(shape)
