"""The stored plan: in small parts, extended, thinned out; and the single file of earlier versions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import MISSING, PlannedClip
from pipelines.planning.plan_file import PlanFile, ShardFacts, extend_plan, filter_plan, last_attempts, write_plan

SETTINGS: dict[str, Any] = {"clip": {"size": 64}}
Shards = list[list[PlannedClip]]


def clip(shard: int, name: str, num_bytes: int = 10, **more: Any) -> PlannedClip:
    return PlannedClip(ClipKey(name, "v", "0"), f"{name}.mp4", num_bytes, more.pop("split", "train"), shard, **more)


def shards_of(first: int, number: int) -> Shards:
    return [[clip(shard, f"p{shard}")] for shard in range(first, first + number)]


def one_file(root: Path, shards: Shards) -> PlanFile:
    """A plan as earlier versions wrote it: plan.parquet is a file, and its footer holds the config."""
    metadata = {"sfumato_config": json.dumps(SETTINGS), "sfumato_corpus": "/films"}
    kind = schema.PLAN_SCHEMA.with_metadata(metadata)
    root.mkdir()
    with pq.ParquetWriter(root / "plan.parquet", kind) as writer:
        for clips in shards:
            rows = [{**(row := asdict(each)).pop("key"), **row} for each in clips]
            writer.write_table(pa.Table.from_pylist(rows, kind))
    return PlanFile(str(root))


def new(root: Path, shards: Shards) -> PlanFile:
    write_plan(str(root), SETTINGS, "/films", shards)
    return PlanFile(str(root))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def clips_of(plan: PlanFile) -> Shards:
    return [*plan.all_clips()]


def test_a_plan_lies_in_parts_of_32_shards_that_any_reader_reads_as_one(tmp_path: Path) -> None:
    plan = new(tmp_path / "set", shards_of(0, 70))
    assert [name for name in files(tmp_path / "set") if name != "plan.json"] == [
        f"plan.parquet/part-0000{number}.parquet" for number in range(3)
    ]
    assert plan.num_shards == 70
    assert clips_of(plan) == shards_of(0, 70)
    assert plan.clips(69) == shards_of(69, 1)[0]
    assert [pq.read_metadata(part.url).num_row_groups for part in plan.parts] == [32, 32, 6]
    assert pq.read_table(tmp_path / "set" / "plan.parquet")["shard"].to_pylist() == [*range(70)]
    with pytest.raises(IndexError, match="no shard 70"):
        plan.rows(70)


@pytest.mark.parametrize("write", [new, one_file])
def test_what_a_plan_says_of_its_shards(write: Any, tmp_path: Path) -> None:
    first = [
        clip(0, "ann", 100),
        clip(0, "ann-copy", 100, duplicate_of="ann/v/0"),
        clip(0, "gone", MISSING),
        clip(0, "bob", 7),
    ]
    plan = write(tmp_path / "set", [first, [clip(1, "cat", 5, split="val")], [clip(2, "bob", 7, attempt=2)]])
    digest = schema.digest_of(SETTINGS)
    specs = [schema.spec_digest(digest, plan.rows(shard)) for shard in range(3)]
    assert plan.facts() == [
        ShardFacts("train", 4, 4, 107, 1, specs[0]),
        ShardFacts("val", 1, 1, 5, 1, specs[1]),
        ShardFacts("train", 1, 0, 7, 2, specs[2]),
    ]
    assert plan.identities() == {"train": 4, "val": 1, "test": 0}
    assert plan.retrying_shards() == [2]
    assert last_attempts(plan) == {("bob", "v", "0"): 2}


def test_new_shards_are_new_parts_and_what_a_killed_planning_left_is_replaced(tmp_path: Path) -> None:
    plan = new(tmp_path / "set", shards_of(0, 3))
    before = files(tmp_path / "set")
    # Killed before it wrote the head: a part that no head names.
    left = tmp_path / "set" / "plan.parquet" / "part-00001.parquet"
    left.write_bytes(b"PAR1 half")
    (left.parent / "part-00002.parquet").write_bytes(b"PAR1 half")
    assert PlanFile(plan.root).num_shards == 3
    extend_plan(plan, shards_of(3, 2))
    after = files(tmp_path / "set")
    assert clips_of(PlanFile(plan.root)) == shards_of(0, 5)
    added = "plan.parquet/part-00001.parquet"
    assert {name for name in after if after[name] != before.get(name)} == {"plan.json", added}
    assert set(after) == {*before, added}


def test_a_plan_without_head_was_not_finished(tmp_path: Path) -> None:
    new(tmp_path / "set", shards_of(0, 3))
    (tmp_path / "set" / "plan.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"set has no plan\.parquet"):
        PlanFile(str(tmp_path / "set"))


def test_a_plan_that_is_one_file_is_extended_and_thinned_out_as_one(tmp_path: Path) -> None:
    plan = one_file(tmp_path / "set", shards_of(0, 2))
    extend_plan(plan, shards_of(2, 1))
    assert clips_of(PlanFile(plan.root)) == shards_of(0, 3)
    filter_plan(PlanFile(plan.root), lambda row: row["identity"] != "p1")
    plan = PlanFile(plan.root)
    assert [len(clips) for clips in plan.all_clips()] == [1, 0, 1]
    assert (plan.config, plan.corpus) == (SETTINGS, "/films")
    assert list(files(tmp_path / "set")) == ["plan.parquet"]


def test_only_parts_with_rows_to_take_out_are_written_again(tmp_path: Path) -> None:
    plan = new(tmp_path / "set", [*shards_of(0, 39), [clip(39, "eve", split="val")]])
    before = files(tmp_path / "set")
    filter_plan(plan, lambda row: row["identity"] != "eve")
    after = files(tmp_path / "set")
    assert [name for name in after if after[name] != before[name]] == ["plan.parquet/part-00001.parquet"]
    assert PlanFile(plan.root).facts()[39] == ShardFacts(
        "val", 0, 0, 0, 1, schema.spec_digest(schema.digest_of(SETTINGS), [])
    )
    filter_plan(PlanFile(plan.root), lambda row: row["identity"] != "eve")
    assert files(tmp_path / "set") == after


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("plan.json", b"{", r"plan\.json is not a plan of this program: "),
        ("plan.json", b'{"schema_version": 9}', r"plan\.json is a plan of schema version 9; this code reads 2"),
        ("plan.json", b'{"schema_version": 2}', r"plan\.json is not a plan of this program: config: "),
        ("plan.parquet/part-00000.parquet", b"PAR1 half", r"part-00000\.parquet is no part of a plan: "),
    ],
)
def test_a_damaged_plan_is_named_on_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    new(tmp_path / "set", shards_of(0, 2))
    storage.write_bytes(str(tmp_path / "set" / name), content)
    with pytest.raises(ValueError, match=message):
        PlanFile(str(tmp_path / "set")).facts()


def test_a_part_of_another_length_than_the_head_says_is_refused(tmp_path: Path) -> None:
    new(tmp_path / "set", shards_of(0, 2))
    new(tmp_path / "other", shards_of(0, 3))
    part = "plan.parquet/part-00000.parquet"
    (tmp_path / "set" / part).write_bytes((tmp_path / "other" / part).read_bytes())
    with pytest.raises(ValueError, match=r"part-00000\.parquet has 3 shards, and 2 were planned"):
        PlanFile(str(tmp_path / "set")).facts()
