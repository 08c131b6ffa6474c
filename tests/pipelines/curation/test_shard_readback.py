from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.curation import shard_readback
from pipelines.dataset.shard_writer import write_shard

Make = Callable[..., Any]
HASHES = {"config_sha256": "c" * 64, "spec_sha256": "p" * 64}


def test_a_shard_read_back_is_written_to_the_same_bytes(tmp_path: Path, make_row: Make, make_reject: Make) -> None:
    rows = [make_row("ann", "v1", "a", 9), make_row("ann", "v1", "b", 3), make_row("bob", "v1", "c", 5)]
    rejects = [
        make_reject("x", "v", "1", "too_small", face_size=20.5, frames_seen=9, thumbnail=b"jpeg"),
        make_reject("x", "v", "2", "internal"),
    ]
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    write_shard(first, "train", 3, rows, rejects, seconds={"a": 1.0}, **HASHES)
    read = shard_readback.read_rows(first, "train", 3), shard_readback.read_rejects(first, 3)
    write_shard(again, "train", 3, *read, seconds={"a": 1.0}, **HASHES)
    files = sorted(path.relative_to(first) for path in Path(first).rglob("*") if path.is_file())
    assert len(files) == 4
    for name in files:
        assert (Path(first) / name).read_bytes() == (Path(again) / name).read_bytes()


def test_a_shard_without_rejects_has_none(tmp_path: Path) -> None:
    write_shard(str(tmp_path), "val", 0, [], [], seconds={}, **HASHES)
    assert (shard_readback.read_rows(str(tmp_path), "val", 0), shard_readback.read_rejects(str(tmp_path), 0)) == (
        [],
        [],
    )


def test_an_index_may_know_more_frames_than_the_part_but_not_fewer(tmp_path: Path, make_row: Make) -> None:
    rows = [make_row("ann", "v1", "a", 4), make_row("bob", "v1", "a", 5)]
    for name, members in (("all", rows), ("one", rows[1:])):
        write_shard(str(tmp_path / name), "train", 0, members, [], seconds={}, **HASHES)
    part, index = "clips/split=train/part-00000.parquet", "index/split=train/part-00000.parquet"
    (tmp_path / "all" / part).write_bytes((tmp_path / "one" / part).read_bytes())
    (row,) = shard_readback.read_rows(str(tmp_path / "all"), "train", 0)
    assert row.key == rows[1].key
    assert row.mouth_openness == pytest.approx(rows[1].mouth_openness)
    pq.write_table(pq.read_table(tmp_path / "all" / index).slice(0, 5), tmp_path / "all" / index)
    with pytest.raises(ValueError, match="a frame that its index does not know"):
        shard_readback.read_rows(str(tmp_path / "all"), "train", 0)


def test_a_damaged_shard_is_named(tmp_path: Path, make_row: Make) -> None:
    write_shard(str(tmp_path), "train", 0, [make_row("ann", "v1", "a", 4)], [], seconds={}, **HASHES)
    path = tmp_path / "clips" / "split=train" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"part-00000\.parquet cannot be read"):
        shard_readback.read_rows(str(tmp_path), "train", 0)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        shard_readback.read_rows(str(tmp_path), "train", 0)
