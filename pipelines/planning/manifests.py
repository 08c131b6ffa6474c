"""Manifests: tables with a row per clip (path; optional identity, video, clip, split, num_bytes)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.dataset.schema import SPLITS
from pipelines.media.frame_folder import FRAME_SUFFIXES
from pipelines.one_line import one_line
from pipelines.planning.listed_files import listed_files
from pipelines.planning.manifest_table import SUFFIXES, TableRows
from pipelines.planning.plan import MISSING, resolve_path
from pipelines.storage import Found

__all__ = ["SUFFIXES", "Manifest", "ManifestRow", "read"]

_LOOKUPS = 64  # at once: one request at a time for millions of files in a bucket would take days
_SHOWN = 5  # missing files that a note names
_WHOLE = re.compile(r"(\d+)(\.0*)?")  # pandas writes 123.0 in a column that has empty cells


@dataclass(frozen=True)
class ManifestRow:
    """One row. `where` names the file and line for error messages; an absent name is empty."""

    where: str
    path: str
    """As written, trimmed; the path of a folder of frames ends with a slash."""
    identity: str
    video: str
    clip: str
    split: str | None
    num_bytes: int
    """`plan.MISSING` if the file does not exist or cannot be looked at, or its store does not know its size."""
    is_missing: bool = False
    checksum: str | None = None
    """Of the store, if it was asked for the file."""

    @property
    def is_absolute(self) -> bool:
        """Whether `path` is absolute, not relative to the manifest's folder."""
        return "://" in self.path or self.path.startswith("/")


@dataclass
class Manifest:
    """A manifest whose rows are read once; `notes` are complete afterwards."""

    src: str
    notes: list[str] = field(default_factory=list)
    identities_from: str = "the manifest"

    def rows(self) -> Iterator[ManifestRow]:
        """Yield the rows in order. Sizes that it does not give are looked up, many at once.

        Raises:
            ValueError: a malformed row, a misspelt column, an unknown split.
            FileNotFoundError: none of the files exists.
        """
        table = TableRows(self.src)
        rows = iter(table)
        number, missing = 0, list[str]()
        num_missing = 0
        with listed_files(_urls_without_size(self.src)) as listed, ThreadPoolExecutor(_LOOKUPS) as pool:
            while batch := list(islice(rows, 1024)):
                # SQLite's connection is this thread's.
                known = [listed(url) if (url := _url_without_size(self.src, row)) else None for _, row in batch]
                for row in pool.map(lambda item, found: _row(self.src, item[0], item[1], found), batch, known):
                    number += 1
                    if row.is_missing:
                        num_missing += 1
                        if len(missing) < _SHOWN:
                            missing.append(one_line(f"{row.where[len(self.src) + 1 :]}: {row.path}"))
                    yield row
        if num_missing and num_missing == number:
            raise FileNotFoundError(f"{self.src}: none of its {number} files exists; {missing[0]}")
        if missing:
            more = f" and {num_missing - len(missing)} more" if num_missing > len(missing) else ""
            self.notes.append(
                f"warning: {num_missing} of {number} files that {self.src} names do not exist and give no row: "
                f"{', '.join(missing)}{more}"
            )
        if table.unused:
            self.notes.append(f"columns of {self.src} without use here: {', '.join(table.unused)}")


def read(src: str) -> Iterator[ManifestRow]:
    """Yield the rows of the manifest at `src`; see `Manifest.rows`."""
    return Manifest(src).rows()


def _urls_without_size(src: str) -> Iterator[str]:
    """Yield the URLs of the rows that give no size; none if the manifest and its first file are local."""
    for number, (_, row) in enumerate(TableRows(src)):
        if not number and "://" not in src and "://" not in row.get("path", ""):
            return
        if url := _url_without_size(src, row):
            yield url


def _url_without_size(src: str, row: Mapping[str, str]) -> str:
    """Return the URL that a row names and gives no size of, else ""."""
    path = row.get("path", "").strip()
    return "" if not path or row.get("num_bytes", "").strip() else resolve_path(storage.parent(src), path)


def _row(src: str, where: str, row: Mapping[str, str], listed: Found | None = None) -> ManifestRow:
    """Check a row and find its file. `listed` is what a listing says of its path as written, trimmed."""
    if "path" not in row:
        raise ValueError(f"{where}: no path")
    split = row.get("split", "").strip().casefold() or None
    if split is not None and split not in SPLITS:
        raise ValueError(f"{where}, column split: must be one of {', '.join(SPLITS)}, got {row['split'].strip()!r}")
    given = _given_size(where, row)
    path, num_bytes, checksum = row["path"].strip(), given, None
    if listed is not None:
        num_bytes, checksum = listed.num_bytes, listed.checksum
    elif given is None or "\\" in path:
        try:
            found = _look_up(storage.parent(src), row["path"])
        except (ValueError, ImportError) as error:  # a URL of a store that is not known or not installed
            raise ValueError(f"{where}, column path: {path}: {error}") from error
        path, num_bytes, checksum = found[0], found[1] if given is None else given, found[2]
    return ManifestRow(
        where=where,
        path=path,
        identity=row.get("identity", "").strip(),
        video=row.get("video", "").strip(),
        clip=row.get("clip", "").strip(),
        split=split,
        num_bytes=MISSING if num_bytes is None else num_bytes,
        is_missing=num_bytes is None,
        checksum=checksum,
    )


def _given_size(where: str, row: Mapping[str, str]) -> int | None:
    text = row.get("num_bytes", "").strip()
    if not text:
        return None
    match = _WHOLE.fullmatch(text)
    if match is None or not text.isascii():
        raise ValueError(f"{where}, column num_bytes: must be a whole number, got {text!r}")
    return int(match[1])


def _look_up(folder: str, written: str) -> tuple[str, int | None, str | None]:
    """Return the path under which a file or folder of frames exists, and its size; None for one that does not exist.

    Blanks around a path, and Windows' backslashes, are part of it only if such a file exists.
    """
    trimmed = written.strip()
    slashes = trimmed.replace("\\", "/")
    for path in dict.fromkeys((trimmed, slashes, written)):
        url = resolve_path(folder, path)
        found = storage.look_up(url)
        if found is None:
            continue
        if not found.is_folder:
            return path, MISSING if found.num_bytes is None else found.num_bytes, found.checksum
        return f"{path.rstrip('/')}/", _size_of_frames(url), None
    return slashes, None, None


def _size_of_frames(url: str) -> int | None:
    """Return the size of the pictures directly in a folder; None if it cannot be listed."""
    try:
        names = [name for name in storage.list(url, recursive=False) if not storage.is_hidden(storage.name(name))]
        pictures = [name for name in names if PurePosixPath(name).suffix.lower() in FRAME_SUFFIXES]
        return sum(map(storage.size, pictures))
    except OSError:
        return None
