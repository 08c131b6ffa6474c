"""CSV tables from outside, with line numbers for the errors."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.one_line import one_line

MAX_BYTES = 1 << 30
MAX_COLUMNS = 1000


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
    return decode_text(str(path), path.read_bytes())


def decode_text(name: str, data: bytes) -> str:
    """Return a file's contents as text. Raises ValueError unless they are UTF-8, with the line that is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{name} line {line}: not UTF-8 text") from None


def csv_rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of each row that is not empty.

    Raises:
        ValueError: it is no CSV, has over `MAX_COLUMNS` columns, or a row has more cells than the first; the message
            names the line.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    num_columns: int | None = None
    begin = 1
    try:
        for row in rows:
            number, begin = begin, rows.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            num_columns = num_columns or len(cells)
            if num_columns > MAX_COLUMNS:
                raise ValueError(f"{name} line {number}: {num_columns:,} columns, at most {MAX_COLUMNS:,} are read")
            if len(cells) > num_columns:
                raise ValueError(
                    f"{name} line {number}: {len(cells)} cells, but the header names {num_columns} columns"
                )
            yield number, cells
    except csv.Error as error:
        raise ValueError(f"{name} line {begin}: {error}") from None


def read_table(path: Path) -> TextTable:
    """Read a CSV file. Empty lines are passed over.

    Raises:
        ValueError: it is no CSV with a header; the message names the line.
    """
    rows = csv_rows(str(path), read_text(path))
    header = next(rows, None)
    if header is None:
        raise ValueError(f"{path} is empty")
    header_line, columns = header[0], tuple(header[1])
    _check_header(path, header_line, columns)
    found = tuple(
        Row(str(path), number, {name: cell for name, cell in zip(columns, cells, strict=False) if cell})
        for number, cells in rows
    )
    return TextTable(str(path), columns, header_line, found)


def _check_header(path: Path, number: int, columns: tuple[str, ...]) -> None:
    for name in columns:
        if name and columns.count(name) > 1:
            raise ValueError(f"{path} line {number}: column {one_line(name, 40)!r} is there twice")
