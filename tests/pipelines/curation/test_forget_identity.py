import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.curation import forget_identity
from pipelines.curation.forget_identity import Holding, find_identity, known_identities, remove_identity
from pipelines.curation.validate_dataset import validate
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_writer import write_shard
from pipelines.planning.plan_file import PlanFile
from pipelines.storage import atomic

Make = Callable[..., Any]


@pytest.fixture
def shards(make_row: Make, make_reject: Make, small_shard: Make) -> list[Any]:
    """ann is in shards 0 (row and reject), 1 (alone) and 3 (a second try); bob in 0, 3; cat in 2, untouched."""
    return [
        small_shard(
            (make_row("ann", "v1", "a", 9), make_row("bob", "v1", "a", 12), make_row("bob", "v1", "b", 10)),
            (make_reject("ann", "v2", "a", "internal"), make_reject("bob", "v2", "a", "storage")),
        ),
        small_shard((make_row("ann", "v3", "a", 16),)),
        small_shard((make_row("cat", "v1", "a", 10),), split="val"),
        small_shard(
            (make_row("ann", "v2", "a", 11),),
            (make_reject("bob", "v2", "a", "no_face", frames_seen=4),),
            attempts={ClipKey("ann", "v2", "a"): 2, ClipKey("bob", "v2", "a"): 2},
        ),
    ]


def without(shards: list[Any], identity: str) -> list[Any]:
    """The same shards as if the identity had never been there."""

    def stays(key: ClipKey) -> bool:
        return key.identity != identity

    return [
        dataclasses.replace(
            shard,
            rows=tuple(row for row in shard.rows if stays(row.key)),
            rejects=tuple(reject for reject in shard.rejects if stays(reject.key)),
            attempts={key: number for key, number in shard.attempts.items() if stays(key)},
        )
        for shard in shards
    ]


def forget(root: str, identity: str) -> Holding:
    holding = find_identity(root, PlanFile(root), identity)
    remove_identity(root, holding)
    return holding


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("forgotten.jsonl", "README.md")
    }


@pytest.fixture
def root(tmp_path: Path, shards: list[Any], make_dataset: Make) -> Path:
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"


@pytest.fixture
def never_there(tmp_path: Path, shards: list[Any], make_dataset: Make) -> Path:
    make_dataset(str(tmp_path / "never"), without(shards, "ann"))
    return tmp_path / "never"


def test_what_is_held_of_an_identity_is_counted(root: Path) -> None:
    holding = find_identity(str(root), PlanFile(str(root)), "ann")
    assert holding == Holding("ann", num_clips=3, num_frames=36, shards=(0, 1, 3))
    assert find_identity(str(root), PlanFile(str(root)), "eve").shards == ()
    assert known_identities(PlanFile(str(root))) == {"ann", "bob", "cat"}


def test_the_data_set_is_what_it_would_be_without_the_identity(root: Path, never_there: Path) -> None:
    forget(str(root), "ann")
    found, expected = contents(root), contents(never_there)
    assert found.keys() == expected.keys()
    # The time it took to make stays that of the making.
    found["dataset.json"], expected["dataset.json"] = (
        json.dumps({**json.loads(data), "stage_seconds": {}}).encode()
        for data in (found["dataset.json"], expected["dataset.json"])
    )
    assert {name for name in found if found[name] != expected[name]} == set()
    assert validate(str(root)).findings == ()


def test_shards_without_the_identity_keep_bytes_and_time(root: Path) -> None:
    names = [shard_paths("val", 2).part, shard_paths("val", 2).index, shard_paths("val", 2).report]
    before = {name: ((root / name).read_bytes(), (root / name).stat().st_mtime_ns) for name in names}
    forget(str(root), "ann")
    assert {name: ((root / name).read_bytes(), (root / name).stat().st_mtime_ns) for name in names} == before


def test_no_file_names_the_identity_afterwards(root: Path) -> None:
    assert any(b"ann" in data for data in contents(root).values())
    forget(str(root), "ann")
    for path in root.rglob("*"):
        assert path.is_dir() or b"ann/" not in path.read_bytes()
    people = {row["identity"] for row in pq.read_table(root / "plan.parquet").to_pylist()}
    assert people == {"bob", "cat"}
    (line,) = [json.loads(line) for line in (root / "forgotten.jsonl").read_text().splitlines()]
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "identity_sha256": hashlib.sha256(b"ann").hexdigest(),
        "num_clips": 3,
        "num_frames": 36,
        "shards": [0, 1, 3],
    }


def test_a_shard_may_become_empty_and_keeps_its_place_in_the_plan(root: Path) -> None:
    forget(str(root), "ann")
    plan = PlanFile(str(root))
    assert [len(plan.rows(shard)) for shard in range(4)] == [3, 0, 1, 1]
    assert pq.read_table(root / "clips" / "split=train" / "part-00001.parquet").num_rows == 0
    manifest = read_manifest(str(root))
    assert [entry.num_clips for entry in manifest.shards] == [2, 0, 1, 0]
    assert manifest.codes == {"no_face": 1}  # bob's failure was superseded
    assert dict(manifest.counts) == {
        "inputs": 4,
        "done": 3,
        "rejected": 1,
        "failed": 0,
        "frames": 32,
        "identities": 2,
    }
    assert manifest.episode_k_max == 9


def test_everybody_can_be_forgotten(root: Path) -> None:
    for identity in ("ann", "bob", "cat"):
        forget(str(root), identity)
    assert validate(str(root)).findings == ()
    manifest = read_manifest(str(root))
    assert (manifest.counts["inputs"], manifest.episode_k_max) == (0, 0)
    assert len((root / "forgotten.jsonl").read_text().splitlines()) == 3


def test_it_works_on_any_url(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    url = f"memory://{tmp_path.name}-forget"
    make_dataset(url, shards)
    forget(url, "ann")
    assert validate(url).findings == ()
    assert read_manifest(url).counts["identities"] == 2


CHANGES = ((storage, "atomic_write"), (atomic, "atomic_write"), (storage, "remove"))  # every way to change a file


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("writes_before_the_stop", range(19))
def test_whenever_it_is_stopped_nothing_half_done_looks_done_and_the_next_try_finishes(
    writes_before_the_stop: int, root: Path, never_there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def stopping(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > writes_before_the_stop:
                raise Stop
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patched:
        for module, name in CHANGES:
            patched.setattr(module, name, stopping(getattr(module, name)))
        with pytest.raises(Stop):
            forget(str(root), "ann")
    if writes_before_the_stop:
        assert hashlib.sha256(b"ann").hexdigest() in (root / "forgotten.jsonl").read_text()
        assert validate(str(root)).findings != ()  # nothing half done looks sound
    plan = PlanFile(str(root))
    for entry in read_manifest(str(root)).shards:  # a report is there only beside the files it is about
        url = root / shard_paths(entry.split, entry.shard).report
        if url.exists():
            report = json.loads(url.read_text())
            for name, key in (("part", "sha256"), ("index", "index_sha256")):
                data = (root / getattr(shard_paths(entry.split, entry.shard), name)).read_bytes()
                assert hashlib.sha256(data).hexdigest() == report[key]
    if find_identity(str(root), plan, "ann").shards:
        forget(str(root), "ann")
    else:
        forget_identity.update_manifest(str(root))
    assert validate(str(root)).findings == ()
    assert contents(root)["plan.parquet"] == contents(never_there)["plan.parquet"]
    assert len((root / "forgotten.jsonl").read_text().splitlines()) == 1


def test_the_stops_reach_the_last_write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The number of stops tried above is that of all writes: log; per shard report, part, index, rejects, report; ...
    written: list[str] = []
    for module, name in CHANGES:
        change = getattr(module, name)

        def recording(*arguments: Any, change: Any = change) -> Any:
            written.append(next(a for a in arguments if isinstance(a, str)).removeprefix(f"{root}/"))
            return change(*arguments)

        monkeypatch.setattr(module, name, recording)
    forget(str(root), "ann")
    assert written[0] == "forgotten.jsonl"
    assert written[1:3] == ["reports/part-00000.json", "clips/split=train/part-00000.parquet"]
    assert written[-3:] == ["plan.parquet", "README.md", "dataset.json"]
    assert len(written) == 19


def test_leftovers_of_interrupted_writes_go_too(root: Path) -> None:
    (root / "clips" / ".partial-1").write_bytes(b"frames of anybody")
    forget(str(root), "ann")
    assert not (root / "clips" / ".partial-1").exists()


def test_copies_under_another_name_go_too_and_originals_are_told(
    tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make
) -> None:
    root = str(tmp_path / "set")
    ann_copy, bob_copy = ClipKey("bob", "v9", "a"), ClipKey("ann", "v9", "a")
    shards = [
        small_shard(
            (make_row("ann", "v1", "a"), make_row("bob", "v1", "a")),
            (make_reject("bob", "v9", "a", "duplicate"), make_reject("ann", "v9", "a", "duplicate")),
            duplicates={ann_copy: "ann/v1/a", bob_copy: "bob/v1/a"},
        )
    ]
    make_dataset(root, shards)
    holding = forget(root, "ann")
    assert (holding.num_clips, holding.copies, holding.remaining) == (3, ("bob/v9/a",), ("bob/v1/a",))
    assert [row["video"] for row in PlanFile(root).rows(0)] == ["v1"]
    assert validate(root).findings == ()


def test_a_rewritten_shard_is_what_the_writer_makes_of_the_rest(root: Path, shards: list[Any], tmp_path: Path) -> None:
    forget(str(root), "ann")
    rest = [row for row in shards[0].rows if row.key.identity != "ann"]
    hashes = {"config_sha256": "c" * 64, "spec_sha256": "p" * 64}
    write_shard(str(tmp_path / "rest"), "train", 0, rest, (), seconds={}, **hashes)
    for name in (shard_paths("train", 0).part, shard_paths("train", 0).index):
        assert (root / name).read_bytes() == (tmp_path / "rest" / name).read_bytes()
    rows = pq.read_table(root / shard_paths("train", 0).part).to_pylist()
    assert [row["frame_jpeg"] for row in rows] == [list(row.frame_jpeg) for row in rest]


def test_a_damaged_shard_stops_it_with_its_name(root: Path) -> None:
    (root / "clips" / "split=train" / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"part-00001\.parquet cannot be read"):
        forget(str(root), "ann")
    (root / "index" / "split=train" / "part-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"index/split=\w+/part-00001"):
        find_identity(str(root), PlanFile(str(root)), "ann")
