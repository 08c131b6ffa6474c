"""plan.parquet: written when a data set is begun, read by every worker, added to when the corpus has grown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import schema, storage
from pipelines.plan import PlannedClip
from pipelines.schema import ClipKey
from pipelines.shards import MANIFEST

PLAN = "plan.parquet"
_CONFIG, _CORPUS = b"sfumato_config", b"sfumato_corpus"


class PlanFile:
    """The plan of the data set at `root`. Row group i holds the clips of shard i.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no plan of this program.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.url = storage.join(root, PLAN)
        try:
            with storage.open(self.url) as file:
                self._metadata = pq.read_metadata(file)
            found = self._metadata.schema.to_arrow_schema()
            if found.names != schema.PLAN_SCHEMA.names:
                raise ValueError(f"it has other columns: {', '.join(found.names)}")
            self.settings: Mapping[str, Any] = json.loads(self._metadata.metadata[_CONFIG])
            self.corpus = self._metadata.metadata[_CORPUS].decode()
        except (KeyError, TypeError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise ValueError(f"{self.url} is not a plan of this program: {error}") from error

    @property
    def num_shards(self) -> int:
        """Number of shards, over all splits."""
        return int(self._metadata.num_row_groups)

    def shards(self) -> Iterator[list[PlannedClip]]:
        """Shard by shard, in order; one of them in memory at a time."""
        with storage.open(self.url) as file:
            parquet = pq.ParquetFile(file, metadata=self._metadata)
            for shard in range(self.num_shards):
                yield [_clip(row) for row in parquet.read_row_group(shard).to_pylist()]

    def shard(self, number: int) -> list[PlannedClip]:
        """The clips of one shard."""
        with storage.open(self.url) as file:
            table = pq.ParquetFile(file, metadata=self._metadata).read_row_group(number)
        return [_clip(row) for row in table.to_pylist()]


def plan_exists(root: str) -> bool:
    """Whether `root` holds a plan, begun or finished.

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


def write_plan(root: str, settings: Mapping[str, Any], corpus: str, shards: Iterable[list[PlannedClip]]) -> None:
    """Replace the plan, atomically. Shards must come in the order of their numbers, from 0.

    `corpus` is the folder that relative paths start from: for whoever continues or retries without naming it again.
    """
    metadata = {_CONFIG: schema.canonical_json(settings), _CORPUS: corpus}
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
    """The row of `schema.PLAN_SCHEMA`."""
    row = asdict(clip)
    return {**row.pop("key"), **row}


def _clip(row: dict[str, Any]) -> PlannedClip:
    key = ClipKey(row.pop("identity"), row.pop("video"), row.pop("clip"))
    return PlannedClip(key, **row)


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`clip.size 256 -> 128` for each value that differs, sections joined by dots."""
    lines: list[str] = []
    for key in sorted({*earlier, *now}):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key} {a} -> {b}")
    return lines
