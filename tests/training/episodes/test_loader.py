import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import storage
from pipelines.dataset.reader import ShardDataset
from pipelines.dataset.shard_cache import ShardCache
from pipelines.faces.landmark_image import rasterize
from pipelines.faces.person_matte import PersonSegmenter
from training.config import ModelConfig
from training.episodes.batch import to_batch
from training.episodes.epoch_order import WindowOrder
from training.episodes.loader import EpisodeLoader
from training.episodes.sampler import EpisodeSampler
from training.images import resize_points, to_images, to_tensor
from training.models.identity_rows import IdentityRows

MakeDataset = Callable[..., ShardDataset]


def test_episodes_are_a_function_of_seed_and_step() -> None:
    forward, backward = EpisodeSampler([5, 7, 9], 2, 4, seed=1), EpisodeSampler([5, 7, 9], 2, 4, seed=1)
    steps = [forward.episodes(step) for step in range(6)]
    assert [backward.episodes(step) for step in reversed(range(6))] == steps[::-1]
    assert [EpisodeSampler([5, 7, 9], 2, 4, seed=2).episodes(step) for step in range(6)] != steps


def test_the_target_is_never_among_the_shots() -> None:
    sampler = EpisodeSampler([3, 5], 2, 8, seed=0)
    for step in range(50):
        for episode in sampler.episodes(step):
            frames = {*episode.shots, episode.target}
            assert len(frames) == 3
            assert frames <= set(range(sampler.num_frames[episode.video]))
            assert 1 <= episode.num_warp_candidates <= 2


def test_every_video_is_visited_once_per_epoch_in_a_new_order() -> None:
    sampler = EpisodeSampler([9] * 12, 2, 4, seed=0)
    visited = [episode.video for step in range(6) for episode in sampler.episodes(step)]
    first, second = visited[:12], visited[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_the_size_of_a_step_does_not_change_the_sequence_of_episodes() -> None:
    small, large = EpisodeSampler([6] * 5, 2, 2, seed=0), EpisodeSampler([6] * 5, 2, 6, seed=0)
    assert large.episodes(1) == [episode for step in (3, 4, 5) for episode in small.episodes(step)]


def test_a_video_with_too_few_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least K \+ 1 = 9 frames, got \[8\]"):
        EpisodeSampler([20, 8], 8, 1, seed=0)


def _loader(
    dataset: ShardDataset,
    rank: int = 0,
    world_size: int = 1,
    size: int = 32,
    segmenter: PersonSegmenter | None = None,
) -> EpisodeLoader:
    videos = dataset.videos("train")
    sampler = EpisodeSampler([len(video.frames) for video in videos], 2, 4, seed=0)
    return EpisodeLoader(dataset, videos, sampler, size, rank=rank, world_size=world_size, segmenter=segmenter)


def test_a_batch_holds_the_frames_of_its_episodes_scaled_with_their_landmarks(make_dataset: MakeDataset) -> None:
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1")
    loader = _loader(dataset)
    decoded, episodes = loader.load(2), loader.sampler.episodes(2)
    assert decoded.images.shape == (4, 3, 32, 32, 3)
    for number, episode in enumerate(episodes):
        video = loader.videos[episode.video]
        assert decoded.video_ids[number] == video.video_id
        wanted = [video.frames[frame] for frame in (episode.target, *episode.shots)]
        for place, (jpeg, points) in enumerate(dataset.read(wanted)):
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            assert np.abs(decoded.images[number, place].mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 2
            # 48 px to 32: pixel centres at integers.
            assert np.allclose(decoded.landmarks[number, place], (points + 0.5) * 32 / 48 - 0.5, atol=1e-4)


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_share_a_step_in_rank_order(world_size: int, make_dataset: MakeDataset) -> None:
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1")
    whole = _loader(dataset).load(3)
    parts = [_loader(dataset, rank, world_size).load(3) for rank in range(world_size)]
    assert sum((part.video_ids for part in parts), ()) == whole.video_ids
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    with pytest.raises(ValueError, match="4 episodes per step are too few for 5 workers"):
        _loader(dataset, 0, 5)


def test_steps_come_in_order_from_any_start(make_dataset: MakeDataset) -> None:
    loader = _loader(make_dataset("ann/v1", "bob/v1"))
    steps = list(loader.steps(3, 9))
    assert len(steps) == 6
    for step, decoded in enumerate(steps, 3):
        assert np.array_equal(decoded.images, loader.load(step).images)
    assert list(loader.steps(4, 4)) == []


def test_the_warp_only_sees_its_candidates(make_dataset: MakeDataset) -> None:
    loader = _loader(make_dataset("ann/v1", "bob/v1", "cyd/v1", num_frames=9))
    for step in range(5):
        decoded, episodes = loader.load(step), loader.sampler.episodes(step)
        for number, episode in enumerate(episodes):
            assert 1 <= decoded.warp_sources[number] <= episode.num_warp_candidates


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_a_decoded_step_becomes_a_batch(
    warp_prior: bool,
    make_dataset: MakeDataset,
    tiny_model: Callable[..., ModelConfig],
    right_half: PersonSegmenter,
) -> None:
    config = tiny_model(warp_prior=warp_prior)
    fineness = 2 if warp_prior else 1
    segmenter = right_half if warp_prior else None
    decoded = _loader(make_dataset("ann/v1", "bob/v1"), size=32 * fineness, segmenter=segmenter).load(0)
    table = IdentityRows(["bob/v1", "ann/v1"], 8, learning_rate=0.1)
    batch = to_batch(decoded, table, config, torch.device("cpu"))
    assert [table.video_ids[row] for row in batch.rows] == list(decoded.video_ids)
    # Means of squares of pixels; a coordinate x is the middle of its pixel.
    images = decoded.images.reshape(4, 3, 32, fineness, 32, fineness, 3).mean(axis=(3, 5))
    landmarks = ((decoded.landmarks + 0.5) / fineness - 0.5).astype(np.float32)
    rounding = 0.5 if warp_prior else 0
    assert np.abs(to_images(batch.target) - images[:, 0]).max() <= rounding
    assert np.abs(to_images(batch.shots[:, 1]) - images[:, 2]).max() <= rounding
    drawn = rasterize(landmarks[1, 2], 32, config.raster)
    assert np.array_equal(to_images(batch.shot_landmark_images[1, 1:2])[0], drawn)
    assert np.array_equal(to_images(batch.target_landmark_image[:1])[0], rasterize(landmarks[0, 0], 32, config.raster))
    assert (batch.warped is not None) == warp_prior
    if batch.warped is not None:
        chosen = images[range(4), decoded.warp_sources]
        unwarped = np.abs(to_images(batch.warped.landmark_image) - to_images(batch.target_landmark_image).astype(float))
        source = np.stack([rasterize(landmarks[i, s], 32, config.raster) for i, s in enumerate(decoded.warp_sources)])
        # Bent to the target, a shot's landmark image lies nearer to the target's than it did.
        assert unwarped.mean() < np.abs(source - to_images(batch.target_landmark_image).astype(float)).mean()
        bent = to_images(batch.warped.frame[:, :3]).astype(float)
        assert np.abs(bent[:, :, 16:] - chosen[:, :, 16:]).mean() > 0.1
        # The matte of the frame that is bent: what stands beside the person does so in what is bent, too.
        assert torch.equal(batch.warped.shot[:, 3], torch.cat([torch.zeros(4, 64, 32), torch.ones(4, 64, 32)], dim=2))
        assert np.abs(bent[:, :, :8] - chosen[:, :, :8]).max() <= 1


def test_pixels_survive_the_way_to_the_networks_and_back() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(images, torch.device("cpu"))
    assert (float(tensor.min()), float(tensor.max())) == (-1, 1)
    assert np.array_equal(to_images(tensor), images)
    assert to_images(torch.full((1, 3, 1, 1), 1.7)).item(0) == 255


def test_points_scale_about_the_pictures_edge() -> None:
    points = np.full((68, 2), -0.5, np.float32)
    points[0] = [0.0, 1.5]
    doubled = resize_points(points, 2.0)
    assert doubled[0].tolist() == [0.5, 3.5]
    assert doubled[1].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(("size", "reduced"), [(48, 1), (32, 1), (24, 2), (12, 4), (10, 4), (6, 8), (7, 4)])
def test_small_pictures_are_decoded_small_and_look_the_same(
    size: int, reduced: int, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset("ann/v1")
    sampler = EpisodeSampler([5], 2, 1, seed=0)
    loader = EpisodeLoader(dataset, dataset.videos("train"), sampler, size)
    decode, sides = cv2.imdecode, []

    def watch(data: np.ndarray, flags: int) -> np.ndarray:
        image = decode(data, flags)
        sides.append(image.shape[0])
        return image

    monkeypatch.setattr(cv2, "imdecode", watch)
    images = loader.load(0).images[0]
    assert sides == [48 // reduced] * 3
    video = loader.videos[0]
    (episode,) = sampler.episodes(0)
    for image, (jpeg, _) in zip(
        images, dataset.read([video.frames[i] for i in (episode.target, *episode.shots)]), strict=True
    ):
        whole = decode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        expected = cv2.resize(whole, (size, size), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(image - expected).mean() < 4


def _windowed(dataset: ShardDataset, window: int, cache: ShardCache | None, **place: int) -> EpisodeLoader:
    videos = dataset.videos("train")
    order = WindowOrder([video.url for video in videos], window, seed=0)
    sampler = EpisodeSampler([len(video.frames) for video in videos], 2, 2, 0, order)
    return EpisodeLoader(dataset, videos, sampler, 32, cache=cache, **place)


IDS = tuple(f"id{i}/v" for i in range(12))


@pytest.mark.slow
def test_a_window_of_shards_is_read_whole_and_no_more_lies_on_the_disk(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(*IDS, num_shards=6, root=f"memory://{tmp_path.name}")
    direct = [*_windowed(dataset, 2, None).steps(0, 18)]  # three epochs
    cache = ShardCache(tmp_path / "scratch", dataset.shards("train"))
    fetched: list[str] = []
    download = storage.download

    def count(url: str, target: Path, num_bytes: int) -> str:
        fetched.append(url)
        return download(url, target, num_bytes)

    monkeypatch.setattr(storage, "download", count)
    ranges, remote = storage.ranges, []

    def watch(urls: list[str], *place: list[int]) -> object:
        remote.extend(url for url in urls if url.startswith("memory:"))
        return ranges(urls, *place)

    most = 0
    for step, (decoded, expected) in enumerate(zip(_windowed(dataset, 2, cache).steps(0, 18), direct, strict=True)):
        assert decoded.video_ids == expected.video_ids
        assert np.array_equal(decoded.images, expected.images)
        most = max(most, len([*cache.folder.glob("*.parquet")]))
        if step == 0:
            monkeypatch.setattr(storage, "ranges", watch)
    cache.close()
    assert most <= 4  # two windows of two shards
    assert {url for url in remote if url not in fetched} == set()
    # Each shard once an epoch; one that ends an epoch and begins the next is kept. A window more was fetched ahead.
    assert 6 <= len(fetched) <= 3 * 6 + 2


def test_windows_are_the_same_for_any_number_of_workers_and_from_any_step(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    dataset = make_dataset(*IDS, num_shards=6, root=f"memory://{tmp_path.name}")
    shards = dataset.shards("train")
    whole = [*_windowed(dataset, 2, None).steps(0, 10)]
    for rank in range(2):
        cache = ShardCache(tmp_path / "scratch", shards)
        part = [*_windowed(dataset, 2, cache, rank=rank, world_size=2).steps(4, 10)]
        cache.close()
        for decoded, expected in zip(part, whole[4:], strict=True):
            assert np.array_equal(decoded.images, expected.images[rank : rank + 1])


def test_a_damaged_shard_ends_the_steps_with_its_name(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset(*IDS[:4], num_shards=2, root=f"memory://{tmp_path.name}")
    loader = _windowed(dataset, 1, ShardCache(tmp_path / "scratch", dataset.shards("train")))
    (url, _) = dataset.shards("train")
    data = bytearray(storage.read_bytes(url))
    data[100] ^= 1
    storage.write_bytes(url, bytes(data))
    with pytest.raises(ValueError, match=f"{url} is damaged"):
        list(loader.steps(0, 2))
    loader.cache.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("num_frames", [16, 40])
def test_an_episode_reads_hardly_more_than_its_frames(
    num_frames: int, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset("ann/v1", num_frames=num_frames)
    sampler = EpisodeSampler([num_frames], 8, 1, seed=0)
    loader = EpisodeLoader(dataset, dataset.videos("train"), sampler, 32)
    pread, read = os.pread, []

    def count(handle: int, length: int, start: int) -> bytes:
        read.append(length)
        return pread(handle, length, start)

    monkeypatch.setattr(os, "pread", count)
    (episode,) = sampler.episodes(0)
    loader.decode([episode])
    frames = [loader.videos[0].frames[i] for i in (episode.target, *episode.shots)]
    asked = sum(frame.jpeg_length + 544 for frame in frames)  # 68 points of two float32
    assert asked <= sum(read) <= asked * 9 / 8
    assert len(read) < 18  # fewer requests than ranges
