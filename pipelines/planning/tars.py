"""List the members of uncompressed tars. A member is a byte range, which any store can read without the rest."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines import storage


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file inside a tar. `name` has no "./" and no "..", so that it lies below the archive."""

    name: str
    offset: int
    num_bytes: int


def members(url: str) -> Iterator[Member]:
    """Yield the regular files of the tar at `url`, in the order of the archive; links and devices are skipped.

    Nothing is unpacked: members are read as byte ranges of the archive.

    Raises:
        ValueError: it is not a tar, or compressed, or truncated.
    """
    try:
        with storage.open(url) as file, tarfile.open(fileobj=file, mode="r:") as tar:
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
