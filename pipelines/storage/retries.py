"""Patience with a store that is busy or slow for a moment, and one line when it stays so."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

_TRIES = 5
_FIRST_PAUSE_S = 0.5  # doubled each time: 7.5 s in all
_BUSY = {408, 429, 500, 502, 503, 504}
_OF_STORES = {"aiohttp", "requests", "urllib3", "gcsfs", "google", "botocore", "aiobotocore", "s3fs", "fsspec"}

_T = TypeVar("_T")


def retrying(url: str, action: Callable[[], _T], *, retries_itself: bool = False) -> _T:
    """`action()`, up to five times while the store answers 408, 429, 500, 502-504, too late or not at all.

    `retries_itself` is for filesystems that repeat refused requests on their own (gcsfs: six times, over half a
    minute): of theirs only timeouts are tried again, which they pass on at once.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        FileExistsError: there is something, and the action wants nothing.
        OSError: the store still refuses; one line that names `url`.
    """
    for number in range(1, _TRIES + 1):
        try:
            return action()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
        except FileExistsError:
            raise  # an answer, not a refusal
        except Exception as error:
            again = isinstance(error, TimeoutError) or (not retries_itself and is_transient(error))
            if again and number < _TRIES:
                time.sleep(_FIRST_PAUSE_S * 2 ** (number - 1) * random.uniform(0.5, 1.5))
                continue
            if isinstance(error, OSError | ValueError) or type(error).__module__.partition(".")[0] in _OF_STORES:
                tries = f", {number} times" if number > 1 else ""
                raise OSError(f"{url}: the store refuses{tries}: {_one_line(error)}") from error
            raise
    raise AssertionError("the last try returns or raises")


def is_transient(error: Exception) -> bool:
    """Whether the same request may well succeed a little later."""
    code = getattr(error, "status", None) or getattr(error, "code", None)
    if code is not None:
        return str(code) in map(str, _BUSY)
    family = type(error).__module__.partition(".")[0]
    return isinstance(error, TimeoutError | ConnectionError) or family in {"aiohttp", "requests", "urllib3"}


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
