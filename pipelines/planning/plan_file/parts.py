"""The files of a plan, each with the clips of some shards: one row group a shard.

A part holds few shards, so that a worker reads its shard's clips in one short request, and it says in its footer what
each of its shards is, so that nobody has to read all rows to know the shards. Plans begun before that are one file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.schema import SPLITS

SHARDS_OF_A_PART = 32
_SHARDS = b"sfumato_shards"
_IDENTITY = ["identity", "split"]


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What a plan says of a shard without its clips."""

    split: str
    num_clips: int
    num_inputs: int
    """Clips that no earlier shard has tried."""
    num_bytes: int
    """Bytes of the source files that have to be read: those of duplicates and of missing files are not."""
    max_attempt: int
    """Of its clips; above 1 where it retries some."""
    spec_sha256: str
    """`schema.spec_digest` of the config and the shard's rows."""


def facts_of(rows: Sequence[Mapping[str, Any]], config_sha256: str, split: str = "") -> ShardFacts:
    """Return the facts of a shard. `split` is that of a shard without clips."""
    return ShardFacts(
        split=rows[0]["split"] if rows else split,
        num_clips=len(rows),
        num_inputs=sum(row["attempt"] == 1 for row in rows),
        num_bytes=sum(max(row["num_bytes"], 0) for row in rows if row["duplicate_of"] is None),
        max_attempt=max((row["attempt"] for row in rows), default=1),
        spec_sha256=schema.spec_digest(config_sha256, rows),
    )


def encode_part(shards: Sequence[Sequence[Mapping[str, Any]]], facts: Sequence[ShardFacts]) -> bytes:
    """Return the Parquet file of some shards' rows; a shard without clips is an empty row group."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema.PLAN_SCHEMA, compression="zstd") as writer:
        for rows in shards:
            writer.write_table(pa.Table.from_pylist(list(rows), schema.PLAN_SCHEMA), row_group_size=max(1, len(rows)))
        writer.add_key_value_metadata({_SHARDS: schema.canonical_json([asdict(each) for each in facts])})
    return sink.getvalue()


class Part(Protocol):
    """A file of a plan."""

    @property
    def url(self) -> str:
        """Its path or URL."""

    @property
    def first(self) -> int:
        """The number of its first shard."""

    @property
    def num_shards(self) -> int:
        """Number of its shards."""

    def rows(self, shard: int) -> list[dict[str, Any]]:
        """Return the rows of one shard, in order."""

    def shards(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each shard, in order."""

    def facts(self, config_sha256: str) -> Sequence[ShardFacts]:
        """Return the facts of each shard, in order."""

    def identities(self) -> Mapping[str, set[str]]:
        """Return split -> identities."""

    def retrying_shards(self) -> list[int]:
        """Return the numbers of the shards that retry clips."""


@dataclass(frozen=True)
class SmallPart:
    """A part with the facts of its shards, which is read whole. Raises ValueError where it is damaged."""

    url: str
    first: int
    num_shards: int

    def rows(self, shard: int) -> list[dict[str, Any]]:
        return read_shard(self.url, shard - self.first)

    def shards(self) -> Iterator[list[dict[str, Any]]]:
        file = _open_whole(self.url)
        for group in range(self.num_shards):
            yield _read_group(file, self.url, group)

    def facts(self, config_sha256: str) -> Sequence[ShardFacts]:
        del config_sha256  # the digests are those of the config that the plan was written with
        try:
            with storage.open(self.url) as file:
                stored = pq.read_metadata(file).metadata[_SHARDS]
            found = [ShardFacts(**each) for each in json.loads(stored)]
        except FileNotFoundError:
            raise
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{self.url} is no part of a plan: {error}") from error
        if len(found) != self.num_shards:
            raise ValueError(f"{self.url} has {len(found)} shards, and {self.num_shards} were planned")
        return found

    def identities(self) -> Mapping[str, set[str]]:
        return _identities(_open_whole(self.url), self.url)

    def retrying_shards(self) -> list[int]:
        return [self.first + at for at, facts in enumerate(self.facts("")) if facts.max_attempt > 1]


@dataclass(frozen=True)
class WholePlan:
    """A plan that is one file, as earlier versions wrote it. Its footer is read once; rows are read shard by shard."""

    url: str
    metadata: Any
    first: int = 0

    @property
    def num_shards(self) -> int:
        return int(self.metadata.num_row_groups)

    def rows(self, shard: int) -> list[dict[str, Any]]:
        with storage.open(self.url) as file:
            return _read_group(pq.ParquetFile(file, metadata=self.metadata), self.url, shard)

    def shards(self) -> Iterator[list[dict[str, Any]]]:
        with storage.open(self.url) as file:
            parquet = pq.ParquetFile(file, metadata=self.metadata)
            for shard in range(self.num_shards):
                yield _read_group(parquet, self.url, shard)

    def facts(self, config_sha256: str) -> Sequence[ShardFacts]:
        return [facts_of(rows, config_sha256) for rows in self.shards()]

    def identities(self) -> Mapping[str, set[str]]:
        with storage.open(self.url) as file:
            return _identities(pq.ParquetFile(file, metadata=self.metadata), self.url)

    @cached_property
    def _attempts(self) -> Sequence[Any]:
        column = schema.PLAN_SCHEMA.names.index("attempt")
        return [self.metadata.row_group(shard).column(column).statistics for shard in range(self.num_shards)]

    def retrying_shards(self) -> list[int]:
        found = enumerate(self._attempts)
        return [shard for shard, each in found if each is not None and each.has_min_max and each.max > 1]


def read_shard(url: str, group: int) -> list[dict[str, Any]]:
    """Return the rows of one shard of a part, which is read in one request.

    Raises:
        FileNotFoundError: there is no such part.
        ValueError: it is damaged.
    """
    return _read_group(_open_whole(url), url, group)


def _open_whole(url: str) -> Any:
    data = storage.read_bytes(url)
    try:
        return pq.ParquetFile(pa.BufferReader(data))
    except (OSError, ValueError) as error:
        raise ValueError(f"{url} is no part of a plan: {error}") from error


def _read_group(parquet: Any, url: str, group: int) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = parquet.read_row_group(group, use_threads=False).to_pylist()
    except (OSError, ValueError, IndexError) as error:  # what pyarrow raises for damaged pages
        raise ValueError(f"{storage.name(url)}: row group {group} cannot be read: {error}") from error
    return found


def _identities(parquet: Any, url: str) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {split: set() for split in SPLITS}
    try:
        for batch in parquet.iter_batches(columns=_IDENTITY, use_threads=False):
            table = pa.Table.from_batches([batch])
            for row in table.group_by(_IDENTITY, use_threads=False).aggregate([]).to_pylist():
                found.setdefault(row["split"], set()).add(row["identity"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{storage.name(url)} cannot be read: {error}") from error
    return found
