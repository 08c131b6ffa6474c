"""The frame index that the processes of a machine map and share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.dataset.reader import ShardDataset
from training.config import TrainConfig
from training.episodes import shared_index
from training.episodes.shared_index import MappedVideos, open_videos
from training.episodes.source import open_dataset, open_loader

MakeDataset = Callable[..., ShardDataset]
_IDS = ("ann/v1", "ann/v2", "bob/v1", "cyd/v1")


@pytest.fixture
def dataset(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> ShardDataset:
    monkeypatch.setattr(shared_index, "MIN_FRAMES", 0)
    return make_dataset(*_IDS, num_frames=[3, 5, 4, 2], num_shards=2)


def test_mapped_videos_are_those_of_the_shards(dataset: ShardDataset, tmp_path: Path) -> None:
    expected, mapped = dataset.videos("train"), open_videos(dataset, "train", tmp_path / "index")
    assert isinstance(mapped, MappedVideos)
    assert [*mapped] == [*expected]
    assert mapped[-1] == expected[-1]
    assert mapped[1:3] == expected[1:3]
    assert mapped.num_frames.tolist() == [3, 5, 4, 2]
    assert isinstance(mapped.columns.jpeg_offset, np.memmap)
    long_ones = mapped.with_frames(4)
    assert [video.video_id for video in long_ones] == ["ann/v2", "bob/v1"]
    assert long_ones.num_frames.tolist() == [5, 4]
    assert mapped.with_frames(2) is mapped


def test_the_second_process_reads_no_shard(
    dataset: ShardDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [*open_videos(dataset, "train", tmp_path)]
    monkeypatch.setattr(ShardDataset, "videos", lambda self, split: pytest.fail("read again"))
    assert [*open_videos(ShardDataset(dataset.root), "train", tmp_path)] == first


def test_what_a_killed_writer_left_is_replaced_and_an_older_index_removed(
    dataset: ShardDataset, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    old = [*open_videos(dataset, "train", folder)]
    (index,) = [path for path in folder.iterdir() if path.is_dir()]
    index.rename(f"{index}.partial")
    assert [*open_videos(dataset, "train", folder)] == old
    changed = make_dataset("dan/v1", num_frames=7)  # in the same place
    assert [video.video_id for video in open_videos(changed, "train", folder)] == ["dan/v1"]
    assert sum(path.is_dir() for path in folder.iterdir()) == 1


def test_without_a_place_for_it_each_process_holds_the_index(
    dataset: ShardDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert open_videos(dataset, "train", tmp_path / "file" / "index") == dataset.videos("train")
    (message,) = caplog.messages
    assert message.startswith(f"the index of {dataset.root} is held in memory by each worker: ")


def test_training_draws_the_same_episodes_from_a_mapped_index(
    dataset: ShardDataset, tmp_path: Path, tiny_train: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, drawn = tiny_train(), []
    for least in (0, 10**9):
        monkeypatch.setattr(shared_index, "MIN_FRAMES", least)
        data = open_dataset(dataset.root, config, str(tmp_path))
        assert isinstance(data.videos, MappedVideos) is (least == 0)
        assert data.video_ids == ["ann/v1", "ann/v2", "bob/v1"]  # of three frames and more
        assert data.num_too_short == 1
        with open_loader(config, data) as loader:
            drawn.append(loader.load(3))
    assert drawn[0].video_ids == drawn[1].video_ids
    assert np.array_equal(drawn[0].images, drawn[1].images)
