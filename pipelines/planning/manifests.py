"""Manifests: JSONL or CSV files with a line per clip (path; optional identity, video, clip, split, num_bytes)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.dataset.schema import SPLITS

SUFFIXES = frozenset({".jsonl", ".csv"})
_COLUMNS = ("path", "identity", "video", "clip", "split", "num_bytes")
_SIZE_LOOKUPS = 32  # at once: one request at a time for millions of files in a bucket would take days


@dataclass(frozen=True)
class ManifestRow:
    """One line. `where` names the file and line for error messages; an absent name is empty."""

    where: str
    path: str
    identity: str
    video: str
    clip: str
    split: str | None
    num_bytes: int

    @property
    def is_absolute(self) -> bool:
        """Whether `path` is absolute, not relative to the manifest's folder."""
        return "://" in self.path or self.path.startswith("/")


def read(src: str) -> Iterator[ManifestRow]:
    """Yield the lines of a manifest in order. Sizes that it does not give are looked up, many at once.

    Raises:
        ValueError: a malformed line, an unknown column or split.
        FileNotFoundError: a file that it names does not exist.
    """
    with storage.open(src) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        rows = _csv_rows(text) if PurePosixPath(src).suffix.lower() == ".csv" else _json_rows(src, text)
        try:
            with ThreadPoolExecutor(_SIZE_LOOKUPS) as pool:
                while batch := list(islice(rows, 1024)):
                    yield from pool.map(lambda item: _row(src, *item), batch)
        except UnicodeDecodeError as error:
            raise ValueError(f"{src} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _csv_rows(text: io.TextIOBase) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(text)
    for row in reader:
        yield reader.line_num, {str(name): value for name, value in row.items()}


def _json_rows(src: str, text: io.TextIOBase) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{src} line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{src} line {number} is not an object")
        yield number, row


def _row(src: str, number: int, row: Mapping[str, object]) -> ManifestRow:
    where = f"{src} line {number}"
    unknown = sorted(set(row) - set(_COLUMNS))
    if unknown:
        raise ValueError(f"{where}: unknown column {unknown[0]!r}; known: {', '.join(_COLUMNS)}")
    values = {name: str(value) for name, value in row.items() if value not in (None, "")}
    if "path" not in values:
        raise ValueError(f"{where}: no path")
    split = values.get("split")
    if split is not None and split not in SPLITS:
        raise ValueError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    path = values["path"]
    absolute = "://" in path or path.startswith("/")
    return ManifestRow(
        where=where,
        path=path,
        identity=values.get("identity", ""),
        video=values.get("video", ""),
        clip=values.get("clip", ""),
        split=split,
        num_bytes=_num_bytes(where, path if absolute else storage.join(storage.parent(src), path), values),
    )


def _num_bytes(where: str, url: str, values: Mapping[str, str]) -> int:
    given = values.get("num_bytes")
    if given is not None:
        if not given.isdecimal():
            raise ValueError(f"{where}: num_bytes must be a whole number, got {given!r}")
        return int(given)
    if not storage.exists(url):
        raise FileNotFoundError(f"{where}: {url} does not exist")
    return storage.size(url)
