from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from pipelines.rasterize import rasterize
from pipelines.shards import ShardDataset
from training.config import ModelConfig
from training.episodes import EpisodeLoader, EpisodeSampler, nearest_in_pose, to_batch
from training.pictures import resize_points, to_images, to_tensor
from training.row_table import RowTable

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


def _loader(dataset: ShardDataset, rank: int = 0, world_size: int = 1) -> EpisodeLoader:
    videos = dataset.videos("train")
    sampler = EpisodeSampler([len(video.frames) for video in videos], 2, 4, seed=0)
    return EpisodeLoader(dataset, videos, sampler, 32, rank=rank, world_size=world_size)


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


def test_workers_share_a_step_in_rank_order(make_dataset: MakeDataset) -> None:
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1")
    whole = _loader(dataset).load(3)
    parts = [_loader(dataset, rank, 2).load(3) for rank in range(2)]
    assert sum((part.video_ids for part in parts), ()) == whole.video_ids
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    with pytest.raises(ValueError, match="4 episodes per step do not divide among 3 workers"):
        _loader(dataset, 0, 3)


def test_steps_come_in_order_from_any_start(make_dataset: MakeDataset) -> None:
    loader = _loader(make_dataset("ann/v1", "bob/v1"))
    steps = list(loader.steps(3, 9))
    assert len(steps) == 6
    for step, decoded in enumerate(steps, 3):
        assert np.array_equal(decoded.images, loader.load(step).images)
    assert list(loader.steps(4, 4)) == []


def test_the_warp_starts_from_the_nearest_pose(face: Callable[..., np.ndarray]) -> None:
    candidates = np.stack([face(yaw=-20), face(yaw=5, x=40.0, size=50.0), face(roll=15), face(pitch=12)])
    assert nearest_in_pose(candidates, face(yaw=8)) == 1
    assert nearest_in_pose(candidates, face(yaw=-12)) == 0
    assert nearest_in_pose(candidates[2:], face(pitch=8)) == 1


def test_the_warp_only_sees_its_candidates(make_dataset: MakeDataset) -> None:
    loader = _loader(make_dataset("ann/v1", "bob/v1", "cyd/v1", num_frames=9))
    for step in range(5):
        decoded, episodes = loader.load(step), loader.sampler.episodes(step)
        for number, episode in enumerate(episodes):
            assert 1 <= decoded.warp_sources[number] <= episode.num_warp_candidates


@pytest.mark.parametrize("warp_prior", [True, False])
def test_a_decoded_step_becomes_a_batch(
    warp_prior: bool, make_dataset: MakeDataset, tiny_model: Callable[..., ModelConfig]
) -> None:
    decoded = _loader(make_dataset("ann/v1", "bob/v1")).load(0)
    table = RowTable(["bob/v1", "ann/v1"], 8, learning_rate=0.1)
    config = tiny_model(warp_prior=warp_prior)
    batch = to_batch(decoded, table, config, torch.device("cpu"))
    assert [table.video_ids[row] for row in batch.rows] == list(decoded.video_ids)
    assert np.array_equal(to_images(batch.target), decoded.images[:, 0])
    assert np.array_equal(to_images(batch.shots[:, 1]), decoded.images[:, 2])
    drawn = rasterize(decoded.landmarks[1, 2], 32, config.raster)
    assert np.array_equal(to_images(batch.shot_landmark_images[1, 1:2])[0], drawn)
    assert np.array_equal(
        to_images(batch.target_landmark_image[:1])[0], rasterize(decoded.landmarks[0, 0], 32, config.raster)
    )
    assert (batch.warped is not None) == warp_prior
    if batch.warped is not None:
        chosen = decoded.images[range(4), decoded.warp_sources]
        unwarped = np.abs(to_images(batch.warped.landmark_image) - to_images(batch.target_landmark_image).astype(float))
        source = np.stack(
            [rasterize(decoded.landmarks[i, s], 32, config.raster) for i, s in enumerate(decoded.warp_sources)]
        )
        # Bent to the target, a shot's landmark image lies nearer to the target's than it did.
        assert unwarped.mean() < np.abs(source - to_images(batch.target_landmark_image).astype(float)).mean()
        assert np.abs(to_images(batch.warped.frame).astype(float) - chosen).mean() > 0.1


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
