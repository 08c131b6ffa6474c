"""Read one shard's index, and check by the shard's footer that its frames are byte ranges."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.schema import KEY_COLUMNS


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A shard, its index, and their number of frames according to the manifest."""

    url: str
    index_url: str
    num_frames: int


def check_footer(file: IndexFile) -> None:
    """Raise ValueError when the shard is not a Parquet file or its frames are not byte ranges."""
    with storage.open(file.url) as source:
        try:
            plain_chunks(pq.read_metadata(source))
        except ValueError as error:  # pyarrow's ArrowInvalid is one too
            raise ValueError(f"{file.url} is broken: {error}") from error


@dataclass(frozen=True, eq=False)
class IndexColumns:
    """Columns of one shard's index, in the file's order. Key columns hold positions in `names`."""

    numbers: Mapping[str, Any]
    names: Mapping[str, list[str]]

    def runs(self, *keys: str) -> list[tuple[int, int]]:
        """Return (first row, end) of each run of consecutive rows that agree in these keys."""
        changed = np.any([np.diff(self.numbers[key]) != 0 for key in keys], axis=0)
        bounds = [0, *(np.flatnonzero(changed) + 1).tolist(), len(self.numbers[keys[0]])]
        return [*itertools.pairwise(bounds)]

    def key_values(self, key: str, rows: Sequence[int]) -> list[str]:
        """Return the values of a key column in some rows."""
        return [self.names[key][code] for code in self.numbers[key][rows].tolist()]


def read_columns(file: IndexFile, names: Sequence[str]) -> IndexColumns:
    """Read the key columns and some numeric columns of a shard's index.

    Raises:
        ValueError: the index is broken, or its number of frames is not the manifest's.
        FileNotFoundError: it is missing.
    """
    try:
        source = pa.BufferReader(storage.read_bytes(file.index_url))
        # Not pq.read_table: it uses the dataset scanner, which doubles the cost.
        table = pq.ParquetFile(source, read_dictionary=[*KEY_COLUMNS]).read([*KEY_COLUMNS, *names], use_threads=False)
        table = table.cast(pa.schema([_as_dictionary(schema.INDEX_SCHEMA.field(name)) for name in table.column_names]))
    except (ValueError, OSError) as error:  # pyarrow's errors are one or the other
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{file.index_url} is broken: {error}") from error
    if not 0 < table.num_rows == file.num_frames or table.num_columns != len(KEY_COLUMNS) + len(names):
        raise ValueError(
            f"{file.index_url} is broken: {table.num_rows} frames in {table.num_columns} of our columns, "
            f"the manifest says {file.num_frames}"
        )
    numbers = {name: _numbers(_one_chunk(table.column(name))) for name in names}
    keys = {name: _one_chunk(table.column(name)) for name in KEY_COLUMNS}
    numbers |= {name: _numbers(keys[name].indices) for name in KEY_COLUMNS}
    return IndexColumns(numbers, {name: keys[name].dictionary.to_pylist() for name in KEY_COLUMNS})


def _as_dictionary(field: Any) -> Any:
    return field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.name in KEY_COLUMNS else field


def _one_chunk(column: Any) -> Any:
    whole = column.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _numbers(array: Any) -> Any:
    # Arrow's `to_numpy` imports pandas, which takes a second and 60 MB.
    return np.from_dlpack(array)


def plain_chunks(metadata: Any) -> list[tuple[int, int]]:
    """Return per row group the file offsets at which the JPEG and the landmark column chunks end.

    Raises:
        ValueError: one of these columns is missing, or encoded so that its values are not byte ranges.
    """
    places = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    for name in schema.PLAIN_COLUMNS:
        if name not in places:
            raise ValueError(f"there is no column {name}")
    ends: list[tuple[int, int]] = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        pair = []
        for name in schema.PLAIN_COLUMNS:
            column = group.column(places[name])
            encodings = set(column.encodings) - {"RLE", "BIT_PACKED"}  # encodings of the list levels
            if encodings != {"PLAIN"} or column.compression != "UNCOMPRESSED" or column.has_dictionary_page:
                raise ValueError(
                    f"column {name} must be PLAIN and uncompressed, found {sorted(encodings)}, {column.compression}"
                )
            pair.append(column.data_page_offset + column.total_compressed_size)
        ends.append((pair[0], pair[1]))
    return ends
