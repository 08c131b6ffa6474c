"""Silence for libraries that write to file descriptor 2 themselves, past Python's logging."""

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Drop what is written to file descriptor 2 within the block. Errors still raise.

    One thread at a time: two that overlap would restore each other's silence.
    """
    with _lock:
        keep = os.dup(2)
        silent = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(silent, 2)
            yield
        finally:
            os.dup2(keep, 2)
            os.close(keep)
            os.close(silent)
