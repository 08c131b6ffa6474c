"""Read small Parquet files whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage


def read_table(url: str, columns: Sequence[str] | None = None) -> Any:
    """Return the file at `url` as a pyarrow Table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    data = storage.read_bytes(url)
    try:
        # Without threads, and so without pq.read_table: Arrow's threads can outlive a short program and abort it.
        return pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{url} cannot be read: {error}") from error
