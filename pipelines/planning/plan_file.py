"""Read and write plan.parquet: written when a data set is begun, read by every worker, extended when the corpus grows.

It is read one shard at a time, because a plan may have millions of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import PlannedClip

PLAN = "plan.parquet"
ClipNames = tuple[str, str, str]
"""Identity, video, clip."""

_CONFIG, _CORPUS = b"sfumato_config", b"sfumato_corpus"


class PlanFile:
    """The plan of the data set at `root`. Row group i holds the clips of shard i; a group may be empty.

    `config` is the config of the shards, `corpus` the folder that relative paths start from. Threads may share an
    instance.

    Raises:
        FileNotFoundError: there is no plan.
        ValueError: the file is not a plan of this schema version.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.url = storage.join(root, PLAN)
        try:
            with storage.open(self.url) as file:
                self._metadata = pq.read_metadata(file)
            found = self._metadata.schema.to_arrow_schema()
            self.config: Mapping[str, Any] = json.loads(found.metadata[_CONFIG])
            self.corpus = found.metadata[_CORPUS].decode()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{root} has no {PLAN}") from error
        except (KeyError, TypeError, ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise ValueError(f"{self.url} is not a plan of this program: {error}") from error
        if not found.equals(schema.PLAN_SCHEMA):
            version = schema.SCHEMA_VERSION
            raise ValueError(f"{self.url} is not a plan of schema version {version}: its columns are others")

    @property
    def num_shards(self) -> int:
        """Number of shards in all splits."""
        return int(self._metadata.num_row_groups)

    def rows(self, shard: int) -> list[dict[str, Any]]:
        """Return the rows of one shard, in order. Raises ValueError when that part of the file is damaged."""
        with storage.open(self.url) as file:
            return self._group(pq.ParquetFile(file, metadata=self._metadata), shard)

    def shards(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield every shard's number and rows, in order. Raises ValueError when the file is damaged."""
        with storage.open(self.url) as file:
            parquet = pq.ParquetFile(file, metadata=self._metadata)
            for shard in range(self.num_shards):
                yield shard, self._group(parquet, shard)

    def retrying_shards(self) -> list[int]:
        """Return the shards that retry clips, from the statistics in the footer, without reading rows."""
        column = schema.PLAN_SCHEMA.names.index("attempt")
        statistics = {
            shard: self._metadata.row_group(shard).column(column).statistics for shard in range(self.num_shards)
        }
        return [
            shard for shard, found in statistics.items() if found is not None and found.has_min_max and found.max > 1
        ]

    def _group(self, parquet: Any, shard: int) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = parquet.read_row_group(shard).to_pylist()
        except (OSError, ValueError) as error:  # what pyarrow raises for damaged pages
            raise ValueError(f"{PLAN}: shard {shard} cannot be read: {error}") from error
        return found

    def clips(self, shard: int) -> list[PlannedClip]:
        """Return the clips of one shard, in order."""
        return [to_clip(row) for row in self.rows(shard)]

    def all_clips(self) -> Iterator[list[PlannedClip]]:
        """Yield the clips, one list per shard."""
        for _, rows in self.shards():
            yield [to_clip(row) for row in rows]


def plan_exists(root: str) -> bool:
    """Whether `root` holds a plan.

    Raises:
        ValueError: `root` is a file, or a data set without its plan.
    """
    if storage.exists(storage.join(root, PLAN)):
        return True
    if storage.exists(root) and not storage.is_folder(root):
        raise ValueError(f"{root} is a file; a data set is a folder")
    if storage.exists(storage.join(root, MANIFEST)):
        raise ValueError(f"{root} has a {MANIFEST} but no {PLAN}: it is no data set that can be continued")
    return False


def write_plan(root: str, config: Mapping[str, Any], corpus: str, shards: Iterable[list[PlannedClip]]) -> None:
    """Replace the plan atomically. Shards must come in the order of their numbers, from 0.

    `corpus` is the folder that relative paths start from; it is stored for later runs that do not name it.
    """
    metadata = {_CONFIG: schema.canonical_json(config), _CORPUS: corpus}
    described = schema.PLAN_SCHEMA.with_metadata(metadata)
    with (
        storage.atomic_write(storage.join(root, PLAN)) as sink,
        pq.ParquetWriter(sink, described, compression="zstd") as writer,
    ):
        for number, clips in enumerate(shards):
            if any(clip.shard != number for clip in clips):
                raise ValueError(f"shard {number} of the plan holds clips of another one")
            table = pa.Table.from_pylist([plan_row(clip) for clip in clips], described)
            writer.write_table(table, row_group_size=max(1, len(clips)))


def plan_row(clip: PlannedClip) -> dict[str, Any]:
    """Return the clip as a row of `schema.PLAN_SCHEMA`."""
    row = asdict(clip)
    return {**row.pop("key"), **row}


def to_clip(row: Mapping[str, Any]) -> PlannedClip:
    """Return the clip of a row of `schema.PLAN_SCHEMA`."""
    more = {name: value for name, value in row.items() if name not in schema.KEY_COLUMNS}
    return PlannedClip(ClipKey(*names_of(row)), **more)


def names_of(row: Mapping[str, Any]) -> ClipNames:
    """Return the key columns of a row of the plan, an index or the rejects."""
    return row["identity"], row["video"], row["clip"]


def last_attempts(plan: PlanFile) -> dict[ClipNames, int]:
    """Return the number of the last attempt of each retried clip. Other clips are left out."""
    attempts: dict[ClipNames, int] = {}
    for shard in plan.retrying_shards():
        for row in plan.rows(shard):
            if row["attempt"] > 1:
                attempts[names_of(row)] = max(row["attempt"], attempts.get(names_of(row), 1))
    return attempts


def is_superseded(row: Mapping[str, Any], attempts: Mapping[ClipNames, int]) -> bool:
    """Whether a later shard retries this clip of the plan, so that its outcome there counts instead."""
    return bool(row["attempt"] < attempts.get(names_of(row), 1))
