"""Results by the content of what they were computed from, for frames that several methods or several T share."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np

Result = TypeVar("Result")


class ResultCache(Generic[Result]):
    """Keeps up to `size` results; the least recently used goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[bytes, Result] = OrderedDict()

    def get(self, arrays: Sequence[np.ndarray], compute: Callable[[list[int]], Iterable[Result]]) -> list[Result]:
        """Return the results of items; arrays of one length hold the items' parts, along the first axis.

        Args:
            compute: takes the indices of items that are not cached, each content once, and returns their results.
        """
        keys = [_key(parts) for parts in zip(*arrays, strict=True)]
        found = {key: self._results[key] for key in keys if key in self._results}
        new: dict[bytes, int] = {}
        for index, key in enumerate(keys):
            if key not in found:
                new.setdefault(key, index)
        if new:
            found |= dict(zip(new, compute([*new.values()]), strict=True))
        for key in keys:
            self._results[key] = found[key]
            self._results.move_to_end(key)
        while len(self._results) > self._size:
            self._results.popitem(last=False)
        return [found[key] for key in keys]


def _key(parts: Iterable[np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.dtype.str} {part.shape} ".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()
