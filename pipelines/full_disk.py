"""A full disk says which file it has no room for."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """A block that writes to an open file, whose errors otherwise have no name in them.

    Raises:
        OSError: no room, a quota or a size limit; it names `file`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise
