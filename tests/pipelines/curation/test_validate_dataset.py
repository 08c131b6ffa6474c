import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import INDEX, PART, REPORT, edit_json, findings

from pipelines import storage
from pipelines.curation.validate_dataset import validate
from pipelines.dataset import forgotten_log

Make = Callable[..., Any]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", [PART, INDEX, REPORT, "rejects/part-00000.parquet", "plan.parquet", "README.md"])
def test_a_missing_file_is_a_finding(name: str, root: Path) -> None:
    (root / name).unlink()
    (line,) = findings(root)
    assert line.startswith(f"{name}: is missing")


@pytest.mark.slow
@pytest.mark.parametrize("name", [PART, INDEX, REPORT, "rejects/part-00000.parquet", "plan.parquet"])
@pytest.mark.parametrize("length", [0, 100, 0.7])
def test_a_truncated_file_is_a_finding(name: str, length: float, root: Path) -> None:
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(length * len(data)) if length < 1 else int(length)])
    assert any(line.startswith(f"{name}: ") for line in findings(root))


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


def test_stray_files_are_found_and_partial_ones_noted(root: Path) -> None:
    (root / "clips" / "split=train" / "part-00009.parquet").write_bytes(b"stale")
    (root / "clips" / ".partial-abc").write_bytes(b"half")
    (root / "rejects" / "part-00001.parquet").write_bytes(b"shard 1 rejected nothing")
    result = validate(str(root))
    assert [str(finding) for finding in result.findings] == [
        "clips/split=train/part-00009.parquet: no shard owns this file",
        "rejects/part-00001.parquet: no shard owns this file",
    ]
    assert result.notes == ("clips/.partial-abc: left by an interrupted write, can be removed",)


def test_someone_who_was_to_be_forgotten_is_found(root: Path) -> None:
    line = forgotten_log.Forgotten(forgotten_log.hash_of("cat"), "2026-01-01T00:00:00+00:00", 1, 10, (1,))
    forgotten_log.add_to_log(str(root), line)
    assert findings(root) == ["plan.parquet: identity cat was to be forgotten, but is still here: forget it again"]
    (root / "forgotten.jsonl").write_text("who?\n")
    assert any("forgotten.jsonl has a line that is no record" in line for line in findings(root))


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


def test_a_shard_of_an_unknown_split_is_a_finding_and_its_files_are_not_checked(root: Path) -> None:
    edit_json(root / "dataset.json", lambda data: data["shards"][1].update(split="../elsewhere"))
    found = findings(root)
    assert "dataset.json: shard 1: unknown split '../elsewhere'; it was not checked" in found
    assert not [line for line in found if "is missing" in line]
