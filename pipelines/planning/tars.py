"""List the members of uncompressed tars. A member is a byte range, which any store can read without the rest."""

from __future__ import annotations

import io
import posixpath
import tarfile
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import IO

from pipelines import storage

_HEADER_BYTES = 4096  # read at a time in a store: a header, and what names longer than 100 characters add


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file inside a tar. `name` has no "./" and no "..", so that it lies below the archive."""

    name: str
    offset: int
    num_bytes: int


class MemberList:
    """The members of a tar in 20 bytes each and their names, so that those of a million fit into memory."""

    def __init__(self, members: Iterator[Member]) -> None:
        names, self._offsets, self._sizes = list[str](), array("q"), array("q")
        for member in members:
            names.append(member.name)
            self._offsets.append(member.offset)
            self._sizes.append(member.num_bytes)
        # A name holds no NUL: it ends one in a tar's header.
        self._names = "\0".join(names).encode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[Member]:
        names = self._names.decode("utf-8", "surrogateescape").split("\0")
        for name, offset, size in zip(names, self._offsets, self._sizes, strict=False):
            yield Member(name, offset, size)


def members(url: str) -> Iterator[Member]:
    """Yield the regular files of the tar at `url`, in the order of the archive; links and devices are skipped.

    Nothing is unpacked: members are read as byte ranges of the archive. In a store, only headers are read.

    Raises:
        ValueError: it is not a tar, or compressed, or truncated.
    """
    try:
        with _open(url) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            size = file.seek(0, 2)
            while (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # tarfile would keep every header in memory
                if not entry.isreg() or entry.issparse():
                    continue
                if entry.offset_data + entry.size > size:
                    raise tarfile.ReadError(f"member {entry.name} is cut off")
                yield Member(posixpath.normpath(f"/{entry.name}").lstrip("/"), entry.offset_data, entry.size)
    except tarfile.TarError as error:
        raise ValueError(f"{url} is not an uncompressed tar, or a broken one: {error}") from error


@cache
def remote_members(url: str, num_bytes: int, checksum: str | None) -> MemberList:
    """Return the members of a tar in a store, which is read once while it is the same.

    Raises:
        ValueError: as `members`.
    """
    del num_bytes, checksum  # of this version of the tar
    return MemberList(members(url))


def _open(url: str) -> AbstractContextManager[IO[bytes]]:
    return storage.open(url) if storage.is_local(url) else _Headers(url)  # type: ignore[return-value]


class _Headers(io.RawIOBase):
    """A tar in a store, of which a request reads a header: buffering would read all that lies between."""

    def __init__(self, url: str) -> None:
        self._url, self._size, self._at = url, storage.size(url), 0
        self._start, self._block = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = max(self._size - self._at, 0)
        if size >= 0:
            wanted = min(size, wanted)
        first = self._at - self._start
        if first < 0 or first + wanted > len(self._block):
            length = min(max(wanted, _HEADER_BYTES), self._size - self._at)
            self._start, first = self._at, 0
            self._block = storage.ranges([self._url], [self._at], [length])[0] if length > 0 else b""
        self._at += wanted
        return self._block[first : first + wanted]
