import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from damage import INDEX, PART, REPORT, edit_json, edit_table, findings

from pipelines.dataset.paths import shard_paths
from pipelines.dataset.schema import ClipKey

Make = Callable[..., Any]


def test_another_schema_or_version_is_found(root: Path) -> None:
    table = pq.read_table(root / INDEX)
    pq.write_table(table.drop_columns(["yaw"]).append_column("extra", table["roll"]), root / INDEX)
    assert f"{INDEX}: schema: columns missing, other or extra: yaw, extra" in findings(root)
    pq.write_table(table.replace_schema_metadata({"sfumato_schema_version": "1"}), root / INDEX)
    assert f"{INDEX}: schema version: expected 2, found 1" in findings(root)


def test_a_clip_twice_or_in_the_rejects_too_is_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[1].update(clip="a"))
    found = findings(root)
    assert f"{PART}: keys: ann/v1/a is in this shard twice" in found
    assert f"{PART}: ann/v1/b is planned for this shard, but neither among its clips nor its rejects" in found
    edit_table(root / "rejects/part-00000.parquet", lambda rows: rows[0].update(video="v1"))
    found = findings(root)
    assert f"rejects/part-00000.parquet: bob/v1/a is in {PART}, too" in found
    assert f"{PART}: bob/v2/a is planned for this shard, but neither among its clips nor its rejects" in found


def test_a_clip_that_was_not_planned_is_found(root: Path) -> None:
    edit_table(root / "rejects/part-00000.parquet", lambda rows: rows[0].update(video="v9"))
    assert f"{PART}: bob/v9/a is in this shard, but not planned for it" in findings(root)


def test_a_report_of_other_inputs_or_another_config_is_found(root: Path) -> None:
    edit_json(root / REPORT, lambda data: data.update(spec_sha256="f" * 64, config_sha256="e" * 64, num_failed=0))
    found = findings(root)
    assert any(line.startswith(f"{REPORT}: made for inputs ffffffffffff, the plan gives it ") for line in found)
    assert any(line.startswith(f"{REPORT}: made with config eeeeeeeeeeee, ") for line in found)
    assert f"{REPORT}: num_failed: the report says 0, the files have 1" in found
    edit_json(root / "dataset.json", lambda data: data.update(plan_sha256="d" * 64))
    assert any(line.startswith("dataset.json: plan_sha256: expected ") for line in findings(root))


def test_a_planned_duplicate_must_have_been_refused(
    tmp_path: Path, shards: list[Any], make_reject: Make, make_dataset: Make
) -> None:
    key = ClipKey("cat", "v1", "a")
    shards[1] = dataclasses.replace(shards[1], duplicates={key: "ann/v1/a"})
    make_dataset(str(tmp_path / "set"), shards)
    part = shard_paths("val", 1).part
    assert findings(tmp_path / "set") == [
        f"{part}: cat/v1/a is planned as a duplicate of ann/v1/a, but was not refused"
    ]
    shards[1] = dataclasses.replace(shards[1], rows=(), rejects=(make_reject("cat", "v1", "a", "duplicate"),))
    make_dataset(str(tmp_path / "other"), shards)
    assert findings(tmp_path / "other") == []


def test_a_thumbnail_is_a_small_picture(
    tmp_path: Path, shards: list[Any], make_reject: Make, make_dataset: Make, make_row: Make
) -> None:
    good = make_row("x", "y", "z", 1).frame_jpeg[0]
    for name, thumbnail, number in (("good", good, 0), ("bad", b"none", 1), ("none", None, 0)):
        rejects = (make_reject("bob", "v2", "a", "internal", thumbnail=thumbnail), shards[0].rejects[1])
        make_dataset(str(tmp_path / name), [dataclasses.replace(shards[0], rejects=rejects), *shards[1:]])
        assert len([line for line in findings(tmp_path / name) if "thumbnail" in line]) == number


def test_a_finding_is_one_line_whatever_the_file_holds(root: Path) -> None:
    edit_table(root / "rejects/part-00000.parquet", lambda rows: rows[0].update(video="v\n\x1b[31m"))
    assert all(line.isprintable() for line in findings(root))
