"""Retry requests to object stores, and report a lasting failure on one line.

Hand-written: tenacity is not among the pinned dependencies, and the rules here (which errors of which store packages
are transient, and how the final error reads) would stay hand-written with it.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.one_line import hide_credentials, one_line

_MAX_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5  # doubled after each attempt: 7.5 s in total
_TRANSIENT_CODES = {408, 429, 500, 502, 503, 504}
_STORE_PACKAGES = {"aiohttp", "requests", "urllib3", "gcsfs", "google", "botocore", "aiobotocore", "s3fs", "fsspec"}

_T = TypeVar("_T")


def retrying(url: str, action: Callable[[], _T], *, retries_itself: bool = False) -> _T:
    """Return `action()`, tried up to five times while the store answers 408, 429, 500 or 502-504, or times out.

    `retries_itself` is for filesystems that retry failed requests on their own (gcsfs: six times, over half a minute):
    only their timeouts, which they raise at once, are retried here.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        FileExistsError: `url` exists and the action requires that it does not.
        OSError: the last attempt failed too; one line that names `url`.
    """
    shown = hide_credentials(url)
    for number in range(1, _MAX_ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), shown) from error
        except FileExistsError:
            raise  # the result of a conditional write, not a failure
        except Exception as error:
            again = isinstance(error, TimeoutError) or (not retries_itself and is_transient(error))
            if again and number < _MAX_ATTEMPTS:
                time.sleep(_FIRST_PAUSE_S * 2 ** (number - 1) * random.uniform(0.5, 1.5))
                continue
            if isinstance(error, OSError | ValueError) or type(error).__module__.partition(".")[0] in _STORE_PACKAGES:
                attempts = f", {number} times" if number > 1 else ""
                raise OSError(f"{shown}: storage request failed{attempts}: {_describe(error)}") from error
            raise
    raise AssertionError("the last attempt returns or raises")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    code = getattr(error, "status", None) or getattr(error, "code", None)
    if code is not None:
        return str(code) in map(str, _TRANSIENT_CODES)
    family = type(error).__module__.partition(".")[0]
    return isinstance(error, TimeoutError | ConnectionError) or family in {"aiohttp", "requests", "urllib3"}


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
