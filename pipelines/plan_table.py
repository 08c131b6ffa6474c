"""plan.parquet as it lies in a data set: which clip goes to which shard, read one shard at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import schema, storage

PLAN = "plan.parquet"

ClipNames = tuple[str, str, str]
"""Identity, video, clip."""


@dataclass(frozen=True, eq=False)
class PlanTable:
    """The plan of a data set. Row group i holds the clips of shard i; a group may be empty."""

    data: bytes
    metadata: Any
    """The footer, parsed once: threads then open readers of their own for nothing."""
    config: Mapping[str, Any]
    """What the shards were made with: of `sfumato_config` in the file's metadata."""

    @property
    def num_shards(self) -> int:
        """Shards of the whole data set, over all splits."""
        return int(self.metadata.num_row_groups)

    def rows(self, shard: int) -> list[dict[str, Any]]:
        """The clips of one shard, in order. Raises ValueError when the file is damaged there."""
        file = pq.ParquetFile(pa.BufferReader(self.data), metadata=self.metadata)
        try:
            found: list[dict[str, Any]] = file.read_row_group(shard).to_pylist()
        except OSError as error:  # pyarrow's word for damaged pages
            raise ValueError(f"{PLAN}: shard {shard} cannot be read: {error}") from error
        return found

    def shards(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Every shard's number and clips."""
        for shard in range(self.num_shards):
            yield shard, self.rows(shard)


def read_plan(root: str) -> PlanTable:
    """The plan of the data set at `root`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no plan of this schema version.
    """
    url = storage.join(root, PLAN)
    try:
        data = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{root} has no {PLAN}") from error
    try:
        metadata = pq.read_metadata(io.BytesIO(data))
        found = metadata.schema.to_arrow_schema()
        config = json.loads((found.metadata or {})[b"sfumato_config"])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{url} is not a plan of this program: {error}") from error
    if not found.equals(schema.PLAN_SCHEMA):
        raise ValueError(f"{url} is not a plan of schema version {schema.SCHEMA_VERSION}: its columns are others")
    return PlanTable(data, metadata, config)


def names_of(row: Mapping[str, Any]) -> ClipNames:
    """The three names in a row of the plan, of an index or of the rejects."""
    return row["identity"], row["video"], row["clip"]


def last_attempts(plan: PlanTable) -> dict[ClipNames, int]:
    """Of each clip that was tried again, the highest attempt. Clips tried once, the most, are not in it."""
    attempts: dict[ClipNames, int] = {}
    for _, rows in plan.shards():
        for row in rows:
            if row["attempt"] > 1:
                attempts[names_of(row)] = max(row["attempt"], attempts.get(names_of(row), 1))
    return attempts


def is_superseded(row: Mapping[str, Any], attempts: Mapping[ClipNames, int]) -> bool:
    """Whether a later shard tried this clip of the plan again: what came of it there counts."""
    return bool(row["attempt"] < attempts.get(names_of(row), 1))
