"""Suppress output of native libraries that write to file descriptor 2 themselves, bypassing Python's logging.

Hand-written: wurlitzer is not among the pinned dependencies, and it captures output through a thread, whereas here the
descriptor only has to point to /dev/null.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Discard what the block writes to file descriptor 2. Exceptions propagate.

    A lock admits one thread at a time: overlapping blocks would restore each other's redirected descriptor.
    """
    with _lock:
        saved = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)
