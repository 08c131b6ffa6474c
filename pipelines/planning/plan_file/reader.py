"""Read the plan of a data set: written when it is begun, read by every worker, extended when the corpus grows.

It is read one shard at a time, because a plan may have millions of rows.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.schema import SPLITS
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file.parts import Part, ShardFacts, SmallPart, WholePlan
from pipelines.planning.plan_file.rows import ClipNames, names_of, to_clip

PLAN = "plan.parquet"
"""The folder of a plan's parts; a file in data sets begun by earlier versions."""
HEAD = "plan.json"
"""Written after the parts: a plan without it was not finished."""

_CONFIG, _CORPUS = b"sfumato_config", b"sfumato_corpus"
_READS = 64  # parts at once in a store


@dataclass(frozen=True)
class Head:
    """What plan.json holds."""

    config: Mapping[str, Any]
    corpus: str
    """Folder that relative paths start from; it is stored for later runs that do not name it."""
    parts: tuple[int, ...]
    """Number of shards of each part."""
    schema_version: int = schema.SCHEMA_VERSION

    def encode(self) -> bytes:
        """Return the file's contents."""
        return (json.dumps(asdict(self), ensure_ascii=False, sort_keys=True) + "\n").encode()


class PlanFile:
    """The plan of the data set at `root`. Threads may share an instance.

    `config` is the config of the shards, `corpus` the folder that relative paths start from.

    Raises:
        FileNotFoundError: there is no plan.
        ValueError: the file is not a plan of this schema version.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.parts: Sequence[Part] = ()
        head = _read_head(root)
        if head is None:
            whole, self.config, self.corpus = _open_whole_plan(root)
            self.parts = (whole,)
        else:
            self.config, self.corpus = head.config, head.corpus
            ends = [*itertools.accumulate(head.parts)]
            self.parts = [
                SmallPart(storage.join(root, part_name(number)), end - num_shards, num_shards)
                for number, (end, num_shards) in enumerate(zip(ends, head.parts, strict=True))
            ]
        self._firsts = [part.first for part in self.parts]

    @property
    def is_whole(self) -> bool:
        """Whether the plan is one file, as earlier versions wrote it."""
        return any(isinstance(part, WholePlan) for part in self.parts)

    @property
    def num_shards(self) -> int:
        """Number of shards in all splits."""
        return sum(part.num_shards for part in self.parts)

    def part_of(self, shard: int) -> Part:
        """Return the part that holds a shard. Raises IndexError where the plan has no such shard."""
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"{self.root}: the plan has no shard {shard}")
        return self.parts[bisect.bisect_right(self._firsts, shard) - 1]

    def rows(self, shard: int) -> list[dict[str, Any]]:
        """Return the rows of one shard, in order. Raises ValueError when that part of the plan is damaged."""
        return self.part_of(shard).rows(shard)

    def shards(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield every shard's number and rows, in order. Raises ValueError when the plan is damaged."""
        for part in self.parts:
            for at, rows in enumerate(part.shards()):
                yield part.first + at, rows

    def facts(self) -> list[ShardFacts]:
        """Return the facts of all shards, in order of their numbers; of small parts, only footers are read."""
        digest = schema.digest_of(self.config)
        with ThreadPoolExecutor(self._reads) as pool:
            return [each for part in pool.map(lambda part: part.facts(digest), self.parts) for each in part]

    def identities(self) -> dict[str, int]:
        """Return split -> number of identities."""
        found: dict[str, set[str]] = {split: set() for split in SPLITS}
        with ThreadPoolExecutor(self._reads) as pool:
            for part in pool.map(lambda part: part.identities(), self.parts):
                for split, names in part.items():
                    found.setdefault(split, set()).update(names)
        return {split: len(names) for split, names in found.items()}

    def retrying_shards(self) -> list[int]:
        """Return the shards that retry clips, from footers, without reading rows."""
        with ThreadPoolExecutor(self._reads) as pool:
            return [shard for part in pool.map(lambda part: part.retrying_shards(), self.parts) for shard in part]

    def clips(self, shard: int) -> list[PlannedClip]:
        """Return the clips of one shard, in order."""
        return [to_clip(row) for row in self.rows(shard)]

    def all_clips(self) -> Iterator[list[PlannedClip]]:
        """Yield the clips, one list per shard."""
        for _, rows in self.shards():
            yield [to_clip(row) for row in rows]

    @property
    def _reads(self) -> int:
        return 1 if storage.is_local(self.root) else _READS  # a disk gains nothing by threads


def part_name(number: int) -> str:
    """Return the path of a part below the root of the data set."""
    return f"{PLAN}/part-{number:05d}.parquet"


def plan_exists(root: str) -> bool:
    """Whether `root` holds a plan.

    Raises:
        ValueError: `root` is a file, or a data set without its plan.
    """
    plan = storage.join(root, PLAN)
    if storage.exists(storage.join(root, HEAD)) or (storage.exists(plan) and not storage.is_folder(plan)):
        return True
    if storage.exists(root) and not storage.is_folder(root):
        raise ValueError(f"{root} is a file; a data set is a folder")
    if storage.exists(storage.join(root, MANIFEST)):
        raise ValueError(f"{root} has a {MANIFEST} but no {PLAN}: it is no data set that can be continued")
    return False


def last_attempts(plan: PlanFile) -> dict[ClipNames, int]:
    """Return the number of the last attempt of each retried clip. Other clips are left out."""
    attempts: dict[ClipNames, int] = {}
    for shard in plan.retrying_shards():
        for row in plan.rows(shard):
            if row["attempt"] > 1:
                attempts[names_of(row)] = max(row["attempt"], attempts.get(names_of(row), 1))
    return attempts


def _read_head(root: str) -> Head | None:
    url = storage.join(root, HEAD)
    try:
        return TypeAdapter(Head).validate_json(_of_this_version(url, storage.read_bytes(url)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{url} is not a plan of this program: {where}: {first['msg']}") from error


def _of_this_version(url: str, text: bytes) -> bytes:
    try:
        version = json.loads(text)["schema_version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{url} is not a plan of this program: {error}") from error
    if version != schema.SCHEMA_VERSION:
        raise ValueError(f"{url} is a plan of schema version {version}; this code reads {schema.SCHEMA_VERSION}")
    return text


def _open_whole_plan(root: str) -> tuple[WholePlan, Mapping[str, Any], str]:
    url = storage.join(root, PLAN)
    try:
        if storage.is_folder(url):
            raise FileNotFoundError(f"{root} has no {HEAD}")
        with storage.open(url) as file:
            metadata = pq.read_metadata(file)
        found = metadata.schema.to_arrow_schema()
        config: Mapping[str, Any] = json.loads(found.metadata[_CONFIG])
        corpus = found.metadata[_CORPUS].decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{root} has no {PLAN}") from error
    except (KeyError, TypeError, ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise ValueError(f"{url} is not a plan of this program: {error}") from error
    if not found.equals(schema.PLAN_SCHEMA):
        version = schema.SCHEMA_VERSION
        raise ValueError(f"{url} is not a plan of schema version {version}: its columns are others")
    return WholePlan(url, metadata), config, corpus
