"""Temporary folders that do not outlive their process by much: the next process removes those of killed ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import weakref
from functools import cache
from pathlib import Path

_PREFIX = "sfumato-scratch-"
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # of file systems without locks


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder, locked while its process lives; as a context manager it gives its path.

    A process that is killed (SIGKILL, out of memory) cannot remove its folders, but its locks end with it: the first
    scratch folder that another process of the same user makes beside them removes them.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make a folder below `parent`, by default the system's folder of temporary files.

        Raises:
            OSError: the folder cannot be created.
        """
        _remove_abandoned_once(str(parent or tempfile.gettempdir()))
        while True:
            super().__init__(prefix=_PREFIX, dir=parent)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                descriptor = _lock(self.name)
                break
            # Another process has found it not yet locked, and removes it.
            self._finalizer.detach()  # type: ignore[attr-defined]
        self._unlock = weakref.finalize(self, os.close, descriptor)

    def cleanup(self) -> None:
        """Remove the folder."""
        super().cleanup()
        self._unlock()


def _lock(folder: str) -> int:
    """Lock a folder, and return the descriptor that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock.
        FileNotFoundError: the folder is not there, or not any more.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(folder).stat()
    except OSError as error:
        if error.errno in _NO_LOCKS:  # then nobody can lock it to remove it
            return descriptor
        os.close(descriptor)
        raise
    return descriptor


@cache
def _remove_abandoned_once(parent: str) -> None:
    """Remove the folders of killed processes of this user."""
    with contextlib.suppress(OSError):
        for entry in [*os.scandir(parent)]:
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                _remove_if_abandoned(entry.path)


def _remove_if_abandoned(folder: str) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(descriptor)
