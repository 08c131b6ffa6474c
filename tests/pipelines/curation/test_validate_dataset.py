import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.curation.validate_dataset import validate
from pipelines.dataset import forgotten_log, schema
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.schema import ClipKey

Make = Callable[..., Any]
PART = "train/part-00000.parquet"
INDEX = "train/part-00000.index.parquet"
REPORT = "train/part-00000.report.json"


@pytest.fixture
def shards(make_row: Make, make_reject: Make, small_shard: Make) -> list[Any]:
    """Three shards: ann's and bob's films with rejects; one clip tried again; cat held out."""
    return [
        small_shard(
            (make_row("ann", "v1", "a", 9), make_row("ann", "v1", "b", 16), make_row("bob", "v1", "a", 12)),
            (make_reject("bob", "v2", "a", "internal"), make_reject("bob", "v3", "a", "no_face", frames_seen=8)),
        ),
        small_shard((make_row("cat", "v1", "a", 10),), split="val"),
        small_shard((make_row("bob", "v2", "a", 11),), attempts={ClipKey("bob", "v2", "a"): 2}),
    ]


@pytest.fixture
def root(tmp_path: Path, shards: list[Any], make_dataset: Make) -> Path:
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"


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


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sound_data_set_gives_no_findings(root: Path, workers: int) -> None:
    told: list[tuple[int, int]] = []
    result = validate(str(root), workers=workers, advance=lambda *numbers: told.append(numbers))
    assert (result.findings, result.notes) == ((), ())
    assert (result.num_shards, result.num_clips, result.num_frames) == (3, 5, 58)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_it_works_on_any_url(shards: list[Any], make_dataset: Make, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}-validate"
    make_dataset(url, shards)
    assert findings(url) == []
    storage.remove(storage.join(url, INDEX))
    assert findings(url) == [f"{INDEX}: is missing"]


def test_a_flipped_byte_in_a_picture_is_found_and_named(root: Path) -> None:
    flip(root / PART, first_frame(root)["jpeg_offset"] + 60)
    found = findings(root, quick=True)
    assert any(line.startswith(f"{PART}: sha256: expected") for line in found)
    assert any(line.startswith(f"{PART}: damaged pictures: frame 5 of ann/v1/a: crc32c: expected") for line in found)
    assert len(found) == 2


def test_a_picture_of_another_size_or_none_at_all_is_found_unless_quick(root: Path) -> None:
    manifest = read_manifest(str(root))
    config = {**manifest.config, "clip": {**manifest.config["clip"], "size": 64}}
    (root / "dataset.json").write_text(dataclasses.replace(manifest, config=config).to_json())
    wanted = f"{PART}: pictures: frame 5 of ann/v1/a: expected 64 x 64 px, found 32 x 32 (and 36 more)"
    assert wanted in findings(root)
    assert wanted not in findings(root, quick=True)
    edit_table(root / PART, lambda rows: rows[0]["frame_jpeg"].__setitem__(0, b"no picture"))
    assert any("a JPEG of 10 bytes cannot be decoded" in line for line in findings(root))


def test_flipped_landmarks_are_found(root: Path) -> None:
    flip(root / PART, first_frame(root)["landmarks_offset"] + 3)  # sign and exponent of the first x
    assert any(line.startswith(f"{PART}: sha256: expected ") for line in findings(root))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "landmarks that are no numbers: frame 6 of ann/v1/a"),
        (39.5, "landmarks outside the crop: frame 6 of ann/v1/a: from "),
        (-8.5, "landmarks outside the crop: frame 6 of ann/v1/a: from -8.5 to "),
        (38.5, ""),  # a quarter of the side outside is allowed: up to 31 + 8
    ],
)
def test_landmarks_must_be_numbers_inside_the_crop_or_little_outside(value: float, message: str, root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[0]["landmarks"][1].__setitem__(7, value))
    found = [line for line in findings(root) if line.startswith(f"{PART}: landmarks")]
    assert [line.startswith(f"{PART}: {message}") for line in found] == ([True] if message else [])


def test_swapped_index_rows_are_found(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows.insert(0, rows.pop(1)))
    found = findings(root)
    assert f"{INDEX}: frame_index differs from the part's: row 0: expected 5, found 6 (and 1 more)" in found
    assert any(line.startswith(f"{INDEX}: byte ranges of pictures: row 0: ") for line in found)
    assert any(line.startswith(f"{INDEX}: byte ranges of landmarks: row 0: ") for line in found)


def test_an_index_that_names_other_clips_or_too_few_frames_is_found(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows[0].update(identity="eve"))
    assert f"{INDEX}: keys differ from the part's: row 0: expected ann/v1/a, found eve/v1/a" in findings(root)
    edit_table(root / INDEX, lambda rows: rows.pop())
    assert f"{INDEX}: rows: expected 37, one per frame of the part, found 36" in findings(root)


def test_offsets_beyond_the_file_are_a_finding(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows[2].update(jpeg_offset=2**40, landmarks_offset=-1))
    found = findings(root)
    assert any(line.startswith(f"{INDEX}: byte ranges of pictures: row 2: ") for line in found)
    assert any(line.startswith(f"{INDEX}: byte ranges of landmarks: row 2: ") for line in found)


@pytest.mark.parametrize("name", [PART, INDEX, REPORT, "rejects/part-00000.parquet", "plan.parquet", "README.md"])
def test_a_missing_file_is_a_finding(name: str, root: Path) -> None:
    (root / name).unlink()
    (line,) = findings(root)
    assert line.startswith(f"{name}: is missing")


@pytest.mark.parametrize("name", [PART, INDEX, REPORT, "rejects/part-00000.parquet", "plan.parquet"])
@pytest.mark.parametrize("length", [0, 100, 0.7])
def test_a_truncated_file_is_a_finding(name: str, length: float, root: Path) -> None:
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(length * len(data)) if length < 1 else int(length)])
    assert any(line.startswith(f"{name}: ") for line in findings(root))


def test_another_encoding_is_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: None, use_dictionary=True)
    assert any(line.startswith(f"{PART}: encodings: column") for line in findings(root))


def test_another_schema_or_version_is_found(root: Path) -> None:
    table = pq.read_table(root / INDEX)
    pq.write_table(table.drop_columns(["yaw"]).append_column("extra", table["roll"]), root / INDEX)
    assert f"{INDEX}: schema: columns missing, other or extra: yaw, extra" in findings(root)
    pq.write_table(table.replace_schema_metadata({"sfumato_schema_version": "1"}), root / INDEX)
    assert f"{INDEX}: schema version: expected 2, found 1" in findings(root)


def test_lists_of_unequal_length_are_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[1]["yaw"].pop())
    (line,) = [line for line in findings(root) if "unequal" in line]
    assert line.startswith(f"{PART}: lists of unequal length: ann/v1/b: frame_index 16, ")
    assert "yaw 15" in line


def test_frames_must_ascend(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[1]["frame_index"].__setitem__(3, 7))
    assert f"{PART}: frame_index that does not ascend: ann/v1/b: 7, then 7" in findings(root)


def test_a_video_in_two_row_groups_is_found(root: Path) -> None:
    kind, rows = pq.read_schema(root / PART), pq.read_table(root / PART).to_pylist()
    with pq.ParquetWriter(root / PART, kind, compression="none", use_dictionary=False) as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], kind))
    assert f"{PART}: row groups: video ann/v1 is in more than one" in findings(root)


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


def test_edited_counts_are_found(root: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["counts"].update(done=6, inputs=7)
        data["codes"] = {"no_face": 2}
        data["episode_k_max"] = 9
        data["shards"][0]["num_frames"] = 36

    edit_json(root / "dataset.json", change)
    assert findings(root) == [
        f"{REPORT}: num_frames: the report says 37, dataset.json 36",
        "dataset.json: counts.done: expected 5, found 6",
        "dataset.json: counts.inputs: expected 6, found 7",
        "dataset.json: codes: expected {'no_face': 1}, found {'no_face': 2}",
        "dataset.json: episode_k_max: expected 8, found 9",
    ]


def test_a_report_of_other_inputs_or_another_config_is_found(root: Path) -> None:
    edit_json(root / REPORT, lambda data: data.update(spec_sha256="f" * 64, config_sha256="e" * 64, num_failed=0))
    found = findings(root)
    assert any(line.startswith(f"{REPORT}: made for inputs ffffffffffff, the plan gives it ") for line in found)
    assert any(line.startswith(f"{REPORT}: made with config eeeeeeeeeeee, ") for line in found)
    assert f"{REPORT}: num_failed: the report says 0, the files have 1" in found
    edit_json(root / "dataset.json", lambda data: data.update(plan_sha256="d" * 64))
    assert any(line.startswith("dataset.json: plan_sha256: expected ") for line in findings(root))


def test_an_identity_in_two_splits_is_found(
    tmp_path: Path, shards: list[Any], make_row: Make, make_dataset: Make
) -> None:
    shards[1] = dataclasses.replace(shards[1], rows=(make_row("ann", "v7", "a"),))
    make_dataset(str(tmp_path / "set"), shards)
    assert findings(tmp_path / "set") == ["plan.parquet: identity ann is in two splits, train and val (ann/v7/a)"]


def test_a_clip_planned_twice_is_found(tmp_path: Path, shards: list[Any], make_row: Make, make_dataset: Make) -> None:
    shards.append(dataclasses.replace(shards[1], rows=(make_row("ann", "v1", "a"),), split="train"))
    make_dataset(str(tmp_path / "set"), shards)
    assert "plan.parquet: ann/v1/a is planned twice" in findings(tmp_path / "set")


def test_only_failed_clips_are_tried_again(
    tmp_path: Path, shards: list[Any], make_reject: Make, make_dataset: Make
) -> None:
    rejects = (make_reject("bob", "v2", "a", "no_face"), *shards[0].rejects[1:])
    make_dataset(str(tmp_path / "set"), [dataclasses.replace(shards[0], rejects=rejects), *shards[1:]])
    assert findings(tmp_path / "set") == ["plan.parquet: bob/v2/a was rejected in shard 0, yet planned again"]


def test_a_planned_duplicate_must_have_been_refused(
    tmp_path: Path, shards: list[Any], make_reject: Make, make_dataset: Make
) -> None:
    key = ClipKey("cat", "v1", "a")
    shards[1] = dataclasses.replace(shards[1], duplicates={key: "ann/v1/a"})
    make_dataset(str(tmp_path / "set"), shards)
    part = schema.part_name("val", 1)
    assert findings(tmp_path / "set") == [
        f"{part}: cat/v1/a is planned as a duplicate of ann/v1/a, but was not refused"
    ]
    shards[1] = dataclasses.replace(shards[1], rows=(), rejects=(make_reject("cat", "v1", "a", "duplicate"),))
    make_dataset(str(tmp_path / "other"), shards)
    assert findings(tmp_path / "other") == []


def test_stray_files_are_found_and_partial_ones_noted(root: Path) -> None:
    (root / "train" / "part-00009.parquet").write_bytes(b"stale")
    (root / "train" / ".partial-abc").write_bytes(b"half")
    (root / "rejects" / "part-00001.parquet").write_bytes(b"shard 1 rejected nothing")
    result = validate(str(root))
    assert [str(finding) for finding in result.findings] == [
        "rejects/part-00001.parquet: no shard owns this file",
        "train/part-00009.parquet: no shard owns this file",
    ]
    assert result.notes == ("train/.partial-abc: left by an interrupted write, can be removed",)


def test_a_thumbnail_is_a_small_picture(
    tmp_path: Path, shards: list[Any], make_reject: Make, make_dataset: Make, make_row: Make
) -> None:
    good = make_row("x", "y", "z", 1).frame_jpeg[0]
    for name, thumbnail, number in (("good", good, 0), ("bad", b"none", 1), ("none", None, 0)):
        rejects = (make_reject("bob", "v2", "a", "internal", thumbnail=thumbnail), shards[0].rejects[1])
        make_dataset(str(tmp_path / name), [dataclasses.replace(shards[0], rejects=rejects), *shards[1:]])
        assert len([line for line in findings(tmp_path / name) if "thumbnail" in line]) == number


def test_someone_who_was_to_be_forgotten_is_found(root: Path) -> None:
    line = forgotten_log.Forgotten(forgotten_log.hash_of("cat"), "2026-01-01T00:00:00+00:00", 1, 10, (1,))
    forgotten_log.add_to_log(str(root), line)
    assert findings(root) == ["plan.parquet: identity cat was to be forgotten, but is still here: forget it again"]
    (root / "forgotten.jsonl").write_text("who?\n")
    assert any("forgotten.jsonl has a line that is no record" in line for line in findings(root))


def test_a_finding_is_one_line_whatever_the_file_holds(root: Path) -> None:
    edit_table(root / "rejects/part-00000.parquet", lambda rows: rows[0].update(video="v\n\x1b[31m"))
    assert all(line.isprintable() for line in findings(root))


def test_a_shard_without_any_clips_is_sound(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    make_dataset(str(tmp_path / "set"), [*shards, dataclasses.replace(shards[1], rows=())])
    assert findings(tmp_path / "set") == []


def test_what_is_no_data_set_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        validate(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"has no dataset\.json"):
        validate(str(tmp_path))
    edit_json(root / "dataset.json", lambda data: data["config"].pop("clip"))
    with pytest.raises(ValueError, match=r"dataset\.json: its config says no size"):
        validate(str(root))
    edit_json(root / "dataset.json", lambda data: data.update(schema_version=1))
    with pytest.raises(ValueError, match="schema version 1; this code reads 2"):
        validate(str(root))


def test_numbers_that_are_none_are_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[0]["yaw"].__setitem__(2, np.nan))
    assert f"{PART}: yaw that is no number: frame 7 of ann/v1/a" in findings(root)


def test_a_shard_of_an_unknown_split_is_a_finding_and_its_files_are_not_looked_for(root: Path) -> None:
    edit_json(root / "dataset.json", lambda data: data["shards"][1].update(split="../elsewhere"))
    found = findings(root)
    assert "dataset.json: shard 1: unknown split '../elsewhere'; it was not looked at" in found
    assert not [line for line in found if "is missing" in line]
