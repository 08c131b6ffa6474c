"""Read the rows of a manifest in the dialects that spreadsheets, pandas and editors write.

CSV with commas, semicolons, tabs or bars; JSON Lines, or one JSON array of objects; UTF-8 or UTF-16. Column names are
trimmed and compared in small letters, cells are trimmed.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from pipelines import storage
from pipelines.one_line import one_line

COLUMNS = ("path", "identity", "video", "clip", "split", "num_bytes")
_TABLES = frozenset({".csv", ".tsv"})
_OBJECTS = frozenset({".jsonl", ".ndjson", ".json"})
SUFFIXES = _TABLES | _OBJECTS
"""Suffixes of manifests, in lower case."""
_DELIMITERS = ",;\t|"
_LIKE = 0.8  # similarity from which an unknown column is taken for a misspelt one
_MOST_DIGITS = 30  # of a number that is written out


@dataclass
class TableRows:
    """The rows of a manifest, to be iterated once."""

    src: str
    unused: list[str] = field(default_factory=list)
    """Columns that have no meaning here, in the order in which they are met."""

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield where each row stands, and its cells that are not empty: column -> text as written, untrimmed.

        Raises:
            ValueError: the file is no text, or no table; a misspelt or repeated column, a surplus cell.
        """
        with storage.open(self.src) as raw:
            encoding = _encoding(raw.read(4))
            raw.seek(0)
            with io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
                try:
                    yield from self._csv_rows(text) if self._is_table else self._json_rows(text)
                except UnicodeError as error:
                    place = f": {error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
                    name = "UTF-8" if encoding.startswith("utf-8") else "UTF-16"
                    raise ValueError(f"{self.src} is not {name} text{place}; save it as UTF-8") from error

    @property
    def _is_table(self) -> bool:
        return PurePosixPath(self.src).suffix.lower() not in _OBJECTS

    def _csv_rows(self, text: io.TextIOBase) -> Iterator[tuple[str, Mapping[str, str]]]:
        first, skipped = "", 0
        while not first.strip() and (first := text.readline()):
            skipped += 1
            if first.lower().startswith("sep="):  # Excel's own first line
                first = ""
        delimiter = _delimiter(first)
        reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"{self.src} line {skipped - 1 + reader.line_num}: {error}") from error
            if cells is None:
                break
            where = f"{self.src} line {skipped - 1 + reader.line_num}"
            if header is None:
                header = self._header(where, cells)
                continue
            if any(cell.strip() for cell in cells):
                yield where, self._cells(where, header, cells)

    def _header(self, where: str, cells: Sequence[str]) -> list[str]:
        header = [cell.strip().casefold() for cell in cells]
        for name in COLUMNS:
            if header.count(name) > 1:
                raise ValueError(f"{where}: column {name!r} stands twice")
        for name in header:
            if name:
                self._check_column(where, name, header)
        if "path" not in header:
            found = one_line(", ".join(filter(None, header))) or "none"
            raise ValueError(f"{where}: no column 'path'; columns: {found}")
        return header

    def _cells(self, where: str, header: Sequence[str], cells: Sequence[str]) -> Mapping[str, str]:
        for number, cell in enumerate(cells[len(header) :], start=len(header) + 1):
            if cell.strip():
                raise ValueError(f"{where}, column {number}: {cell!r} has no column: the header has {len(header)}")
        return {name: cell for name, cell in zip(header, cells, strict=False) if name in COLUMNS and cell.strip()}

    def _json_rows(self, text: io.TextIOBase) -> Iterator[tuple[str, Mapping[str, str]]]:
        is_array = text.read(1 << 10).lstrip()[:1] == "["
        text.seek(0)
        if is_array:
            for number, value in enumerate(_parse(self.src, text.read()), start=1):
                yield f"{self.src} row {number}", self._object(f"{self.src} row {number}", value)
            return
        for number, line in enumerate(text, start=1):
            where = f"{self.src} line {number}"
            if line.strip():
                yield where, self._object(where, _parse(where, line))

    def _object(self, where: str, value: Any) -> Mapping[str, str]:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        row = {str(name).strip().casefold(): cell for name, cell in value.items()}
        for name in row:
            self._check_column(where, name, row)
        known = {name: _text(where, name, cell) for name, cell in row.items() if name in COLUMNS}
        return {name: cell for name, cell in known.items() if cell.strip()}

    def _check_column(self, where: str, name: str, others: Sequence[str] | Mapping[str, Any]) -> None:
        """Note a column without meaning, and refuse one whose name looks like a misspelt one."""
        if name in COLUMNS or name in self.unused:
            return
        absent = [column for column in COLUMNS if column not in others]
        if like := difflib.get_close_matches(name, absent, 1, _LIKE):
            raise ValueError(f"{where}: unknown column {name!r}: {like[0]!r} is meant? known: {', '.join(COLUMNS)}")
        self.unused.append(name)


def _encoding(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in head:  # UTF-16 without its mark: every other byte of plain text is zero
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def _delimiter(header: str) -> str:
    """Return the delimiter that gives the header a column `path`, and most columns."""

    def score(delimiter: str) -> tuple[bool, int]:
        columns = [cell.strip().strip('"').strip().casefold() for cell in header.split(delimiter)]
        return "path" in columns, len(columns)

    return max(_DELIMITERS, key=score)


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=lambda _: None)  # pandas writes NaN for nothing
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise ValueError(f"{where} is not JSON: {reason}") from error


def _text(where: str, column: str, value: Any) -> str:
    """Return a cell of JSON as text. A whole number is written without a fraction: 17 and 17.0 are one number."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        hint = "; pandas writes rows with orient='records', lines=True" if isinstance(value, dict) else ""
        raise ValueError(f"{where}, column {column}: must be text or a number, got {_short(value)}{hint}")
    is_whole = isinstance(value, int) or (value == value.to_integral_value() and value.adjusted() < _MOST_DIGITS)
    return str(int(value)) if is_whole else str(value)


def _short(value: Any) -> str:
    text = re.sub(r"Decimal\('([^']*)'\)", r"\1", repr(value))
    return text if len(text) <= 40 else f"{text[:37]}..."
