import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines import storage
from pipelines.curation import preview_sample
from pipelines.curation.preview_sample import sample
from pipelines.dataset.schema import ClipKey

Make = Callable[..., Any]


@pytest.fixture
def shards(make_row: Make, make_reject: Make, small_shard: Make) -> list[Any]:
    """One identity with six clips, three with one each, in three shards; a failure that was tried again."""
    many = [make_row("ann", "v1", name, 9) for name in "abcdef"]
    thumbnail = many[0].frame_jpeg[0]
    return [
        small_shard(tuple(many), (make_reject("dan", "v1", "a", "internal"), make_reject("eve", "v1", "a", "no_face"))),
        small_shard((make_row("bob", "v1", "a", 12), make_row("cat", "v1", "a", 3))),
        small_shard(
            (make_row("fay", "v1", "a", 16),),
            (make_reject("dan", "v1", "a", "too_small", face_size=20.0, thumbnail=thumbnail),),
            split="val",
            attempts={ClipKey("dan", "v1", "a"): 2},
        ),
    ]


@pytest.mark.slow
def test_clips_are_spread_over_identities_and_the_seed_decides(
    tmp_path: Path, shards: list[Any], make_dataset: Make
) -> None:
    manifest = make_dataset(str(tmp_path), shards)
    seen = sample(str(tmp_path), manifest, 5, seed=0)
    identities = Counter(strip.names[0] for strip in seen.strips)
    assert identities == {"ann": 2, "bob": 1, "cat": 1, "fay": 1}
    names = [strip.names for strip in seen.strips]
    assert names == sorted(names)
    assert names == [strip.names for strip in sample(str(tmp_path), manifest, 5, seed=0).strips]
    others = {tuple(s.names for s in sample(str(tmp_path), manifest, 5, seed=seed).strips) for seed in range(5)}
    assert len(others) > 1
    assert len(sample(str(tmp_path), manifest, 99, seed=0).strips) == 9


def test_a_strip_shows_frames_of_its_clip_from_left_to_right(
    tmp_path: Path, shards: list[Any], make_dataset: Make
) -> None:
    seen = sample(str(tmp_path), make_dataset(str(tmp_path), shards), 99, seed=0)
    rows = {dataclasses.astuple(row.key): row for shard in shards for row in shard.rows}
    for strip in seen.strips:
        row = rows[strip.names]
        assert strip.num_frames == len(row.frame_jpeg)
        assert len(strip.tiles) == min(5, strip.num_frames)
        yaw = [tile.numbers["yaw"] for tile in strip.tiles]
        assert yaw == sorted(yaw)
        for tile in strip.tiles:
            i = row.frame_index.index(tile.frame_index)
            assert np.array_equal(tile.landmarks, row.landmarks[i])
            assert tile.numbers["yaw"] == row.yaw[i]
            picture = cv2.imdecode(np.frombuffer(tile.picture, np.uint8), cv2.IMREAD_COLOR)
            original = cv2.imdecode(np.frombuffer(row.frame_jpeg[i], np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (32, 32, 3)
            # WebP blurs the colours of noise; that it is this frame shows in its correlation.
            assert np.corrcoef(picture.mean(-1).ravel(), original.mean(-1).ravel())[0, 1] > 0.8
    assert {strip.split for strip in seen.strips} == {"train", "val"}


def test_numbers_are_of_every_frame_and_superseded_failures_are_left_out(
    tmp_path: Path, shards: list[Any], make_dataset: Make
) -> None:
    seen = sample(str(tmp_path), make_dataset(str(tmp_path), shards), 1, seed=0)
    assert sorted(seen.frames_per_clip) == [3, 9, 9, 9, 9, 9, 9, 12, 16]
    assert {len(values) for values in seen.numbers.values()} == {85}
    assert sorted((row["identity"], row["code"]) for row in seen.rejects) == [("dan", "too_small"), ("eve", "no_face")]


def test_only_so_many_shards_and_rejects_are_sampled(
    tmp_path: Path, shards: list[Any], make_dataset: Make, make_reject: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects = tuple(make_reject("zoe", "v", f"{i:02d}", "no_face", thumbnail=b"x") for i in range(30))
    shards = [
        dataclasses.replace(shard, rejects=rejects[10 * i : 10 * i + 10], attempts={}) for i, shard in enumerate(shards)
    ]
    manifest = make_dataset(str(tmp_path), shards)
    seen = sample(str(tmp_path), manifest, 9, seed=0)
    assert len(seen.rejects) == 30
    assert sum(row["shown"] for row in seen.rejects) == 24
    assert sum(row["thumbnail"] is not None for row in seen.rejects) == 24
    monkeypatch.setattr(preview_sample, "MAX_SHARDS", 2)
    seen = sample(str(tmp_path), manifest, 9, seed=0)
    assert (seen.num_shards, len(seen.rejects)) == (2, 20)


def test_it_works_on_any_url(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    url = f"memory://{tmp_path.name}-gallery"
    assert len(sample(url, make_dataset(url, shards), 4, seed=1).strips) == 4


def test_a_damaged_or_missing_file_is_named(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    manifest = make_dataset(str(tmp_path), shards)
    part = tmp_path / "clips" / "split=train" / "part-00001.parquet"
    data = part.read_bytes()
    at = data.index(shards[1].rows[1].frame_jpeg[0]) + 100
    part.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ValueError, match=r"part-00001\.parquet: a frame of cat/v1/a is damaged"):
        sample(str(tmp_path), manifest, 99, seed=0)
    storage.remove(str(tmp_path / "index" / "split=val" / "part-00002.parquet"))
    with pytest.raises(FileNotFoundError, match=r"index/split=\w+/part-00002"):
        sample(str(tmp_path), manifest, 99, seed=0)
