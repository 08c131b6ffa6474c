"""Where files lie, and that other programs read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.forget_identity import find_identity, remove_identity
from pipelines.curation.preview_sample import sample
from pipelines.curation.validate_dataset import validate
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.paths import HIVE, ONE_FOLDER, ShardPaths, layout_of, shard_paths
from pipelines.dataset.reader import ShardDataset
from pipelines.planning.plan_file import PlanFile

Make = Callable[..., Any]


@pytest.fixture
def write(tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make) -> Make:
    """`write(layout)` -> a data set of three clips in train and one in val; one shard and one split have no clip."""

    def make(layout: str) -> str:
        shards = [
            small_shard(
                (make_row("ann", "v1", "a", 9), make_row("bob", "v1", "a", 10)),
                (make_reject("bob", "v2", "a", "no_face"),),
            ),
            small_shard((make_row("cat", "v1", "a", 11),)),
            small_shard((make_row("dan", "v1", "a", 12),), split="val"),
            small_shard((), (make_reject("eve", "v1", "a", "no_face"),)),
        ]
        root = str(tmp_path / layout.replace(" ", "_"))
        make_dataset(root, shards, layout=layout)
        return root

    return make


def test_the_paths_of_both_layouts() -> None:
    assert shard_paths("val", 7) == ShardPaths(
        "clips/split=val/part-00007.parquet",
        "index/split=val/part-00007.parquet",
        "reports/part-00007.json",
        "rejects/part-00007.parquet",
    )
    assert shard_paths("val", 7, ONE_FOLDER) == ShardPaths(
        "val/part-00007.parquet",
        "val/part-00007.index.parquet",
        "val/part-00007.report.json",
        "rejects/part-00007.parquet",
    )
    assert layout_of({"clip": {}}) == ONE_FOLDER
    assert layout_of({"file_layout": "hive"}) == HIVE
    with pytest.raises(ValueError, match="unknown layout 'iceberg' of a data set; this version knows 'hive' and"):
        shard_paths("val", 7, "iceberg")


@pytest.mark.slow
def test_case_15_any_parquet_reader_reads_the_clips(write: Make) -> None:
    """duckdb, polars, pandas and pyarrow: every clip once, with the split as a column and its pictures."""
    import duckdb
    import pandas
    import polars
    import pyarrow.dataset

    root = write(HIVE)
    clips = f"{root}/clips"
    expected = [("ann", "train", 9), ("bob", "train", 10), ("cat", "train", 11), ("dan", "val", 12)]
    query = "SELECT identity, split, len(frame_jpeg) FROM read_parquet('{}', hive_partitioning=true) ORDER BY 1"
    assert duckdb.sql(query.format(f"{clips}/**/*.parquet")).fetchall() == expected
    first = duckdb.sql(f"SELECT frame_jpeg[1] FROM '{clips}/split=train/*.parquet' ORDER BY identity").fetchall()
    assert len(first) == 3
    assert bytes(first[0][0]).startswith(b"\xff\xd8")

    columns = ["identity", "split", polars.col("frame_jpeg").list.len()]
    assert polars.scan_parquet(f"{clips}/").select(columns).sort("identity").collect().rows() == expected
    assert polars.read_parquet(f"{clips}/**/*.parquet").height == 4

    table = pandas.read_parquet(clips).sort_values("identity")
    lengths = table["frame_jpeg"].map(len)
    assert list(zip(table["identity"], table["split"].astype(str), lengths, strict=True)) == expected
    assert pandas.read_parquet(clips, filters=[("split", "=", "val")])["identity"].tolist() == ["dan"]

    whole = pyarrow.dataset.dataset(clips, partitioning="hive")
    assert whole.count_rows() == 4
    rows = whole.to_table().sort_by("identity").to_pylist()
    assert [(row["identity"], row["split"], len(row["frame_jpeg"])) for row in rows] == expected
    assert len(rows[0]["landmarks"][0]) == 136

    index = f"SELECT count(*), count(DISTINCT split) FROM read_parquet('{root}/index/**/*.parquet')"
    assert duckdb.sql(index).fetchall() == [(9 + 10 + 11 + 12, 2)]
    assert duckdb.sql(f"SELECT identity FROM '{root}/rejects/*.parquet' ORDER BY 1").fetchall() == [("bob",), ("eve",)]


@pytest.mark.parametrize("layout", [HIVE, ONE_FOLDER])
def test_both_layouts_are_read_validated_shown_and_forgotten(layout: str, write: Make) -> None:
    root = write(layout)
    dataset = ShardDataset(root)
    assert [video.identity for video in dataset.videos("train")] == ["ann", "bob", "cat"]
    assert [clip.key.identity for clip in dataset.stream("val")] == ["dan"]
    assert {key[0] for key in dataset.crop_affines("train")} == {"ann/v1", "bob/v1", "cat/v1"}
    assert validate(root).findings == ()
    assert len(sample(root, dataset.manifest, 4, 0).strips) == 4
    remove_identity(root, find_identity(root, PlanFile(root), "cat"))
    assert validate(root).findings == ()
    assert [entry.num_clips for entry in read_manifest(root).shards] == [2, 0, 1, 0]
    assert [clip.key.identity for clip in ShardDataset(root).stream("train")] == ["ann", "bob"]


def test_the_bytes_do_not_depend_on_the_layout(write: Make) -> None:
    new, old = write(HIVE), write(ONE_FOLDER)
    for split, shard in (("train", 0), ("train", 1), ("val", 2)):
        for name in ("part", "index"):
            one, other = (
                Path(root, getattr(shard_paths(split, shard, layout), name))
                for root, layout in ((new, HIVE), (old, ONE_FOLDER))
            )
            assert one.read_bytes() == other.read_bytes()
