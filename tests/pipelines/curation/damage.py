"""Helpers that damage a data set, and the names of the files of its first shard."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.validate_dataset import validate

PART = "clips/split=train/part-00000.parquet"


INDEX = "index/split=train/part-00000.parquet"


REPORT = "reports/part-00000.json"


def findings(root: Path | str, **options: Any) -> list[str]:
    return [str(finding) for finding in validate(str(root), **options).findings]


def edit_table(path: Path, change: Callable[[list[dict[str, Any]]], Any], **options: Any) -> None:
    """Read a Parquet file as rows, change them, and write it back with the same schema and encodings."""
    kind = pq.read_schema(path)
    rows = pq.read_table(path).to_pylist()
    change(rows)
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False, **options}
    with pq.ParquetWriter(path, kind, **options) as writer:
        for video in dict.fromkeys((row["identity"], row["video"]) for row in rows):
            members = [row for row in rows if (row["identity"], row["video"]) == video]
            writer.write_table(pa.Table.from_pylist(members, kind))


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def first_frame(root: Path) -> dict[str, Any]:
    row: dict[str, Any] = pq.read_table(root / INDEX).to_pylist()[0]
    return row
