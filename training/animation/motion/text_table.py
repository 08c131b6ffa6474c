"""CSV tables from outside, with line numbers for the errors."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.one_line import one_line

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Row:
    """A row: its file, its line number, counted from 1, and its cells that are not empty."""

    name: str
    number: int
    cells: Mapping[str, str]

    def value(self, column: str, lowest: float, highest: float, default: float = 0.0) -> float:
        """Return a cell as a number; `default` when it is empty.

        Raises:
            ValueError: it is no number in the range.
        """
        cell = self.cells.get(column)
        if cell is None:
            return default
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise ValueError(
                f"{self.name} line {self.number}: {column} must be a number in [{lowest:g}, {highest:g}],"
                f" got {one_line(cell, 40)!r}"
            )
        return number


@dataclass(frozen=True)
class TextTable:
    """A CSV file."""

    name: str
    """For messages."""
    columns: tuple[str, ...]
    header_line: int
    rows: tuple[Row, ...]


def read_text(path: Path) -> str:
    """Return a file's text. Raises ValueError unless it is UTF-8 text of at most a gigabyte."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES:,} bytes")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} line {line}: not UTF-8 text") from None


def read_table(path: Path) -> TextTable:
    """Read a CSV file. Empty lines are passed over.

    Raises:
        ValueError: it is no CSV with a header; the message names the line.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    columns: tuple[str, ...] | None = None
    header_line, begin, found = 1, 1, []
    try:
        for cells in rows:
            number, begin = begin, rows.line_num + 1
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if columns is None:
                columns, header_line = tuple(stripped), number
                _check_header(path, number, columns)
            elif len(stripped) > len(columns):
                raise ValueError(
                    f"{path} line {number}: {len(stripped)} cells, but the header names {len(columns)} columns"
                )
            else:
                named = {name: cell for name, cell in zip(columns, stripped, strict=False) if cell}
                found.append(Row(str(path), number, named))
    except csv.Error as error:
        raise ValueError(f"{path} line {begin}: {error}") from None
    if columns is None:
        raise ValueError(f"{path} is empty")
    return TextTable(str(path), columns, header_line, tuple(found))


def _check_header(path: Path, number: int, columns: tuple[str, ...]) -> None:
    for name in columns:
        if name and columns.count(name) > 1:
            raise ValueError(f"{path} line {number}: column {one_line(name, 40)!r} is there twice")
