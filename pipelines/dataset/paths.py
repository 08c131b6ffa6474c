"""Where the files of a shard lie below the root of a data set.

The clips lie apart from indexes, reports and rejects, in folders `split=NAME` as Hive names them, so that any Parquet
reader reads the folder `clips`. Data sets begun before that have everything of a split in one folder; they are read and
continued as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HIVE = "hive"
ONE_FOLDER = "one folder"
"""Part, index and report of a shard in one folder per split: the layout of a config that names none."""
CLIPS = "clips"
INDEX = "index"


@dataclass(frozen=True)
class ShardPaths:
    """The paths of one shard's files, relative to the root."""

    part: str
    index: str
    report: str
    """It exists if and only if the shard is done."""
    rejects: str


def layout_of(config: Mapping[str, Any]) -> str:
    """Return the layout that a data set's config names."""
    return str(config.get("file_layout", ONE_FOLDER))


def shard_paths(split: str, shard: int, layout: str = HIVE) -> ShardPaths:
    """Return the paths of a shard's files. Shard numbers are unique over all splits.

    Raises:
        ValueError: an unknown layout, of a data set that a later version has made.
    """
    name, rejects = f"part-{shard:05d}", f"rejects/part-{shard:05d}.parquet"
    if layout == ONE_FOLDER:
        start = f"{split}/{name}"
        return ShardPaths(f"{start}.parquet", f"{start}.index.parquet", f"{start}.report.json", rejects)
    if layout == HIVE:
        folder = f"split={split}"
        return ShardPaths(
            part=f"{CLIPS}/{folder}/{name}.parquet",
            index=f"{INDEX}/{folder}/{name}.parquet",
            report=f"reports/{name}.json",
            rejects=rejects,
        )
    raise ValueError(f"unknown layout {layout!r} of a data set; this version knows {HIVE!r} and {ONE_FOLDER!r}")
