"""Episodes of synthetic people, with cartoons in place of the renderer."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.faces.crop import crop, crop_affine, to_crop
from training.config import SyntheticConfig, TrainConfig
from training.episodes import online
from training.episodes.online import FIRST_IDENTITY, OnlineLoader, OnlineSource
from training.episodes.source import open_source

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]


@pytest.fixture
def config(online_config: TrainConfig) -> TrainConfig:
    return online_config


def _loader(config: TrainConfig, fake_people: Any, rank: int = 0, world_size: int = 1) -> OnlineLoader:
    return OnlineLoader(config, fake_people.people, rank=rank, world_size=world_size, device=CPU)


@pytest.mark.slow
def test_a_step_is_a_function_of_the_seed_and_its_number(config: TrainConfig, fake_people: Any) -> None:
    first, again = _loader(config, fake_people), _loader(config, fake_people)
    steps = [*first.steps(0, 3)]
    for step in (2, 0, 1):
        batch = again.load(step)
        assert batch.video_ids == steps[step].video_ids
        assert torch.equal(torch.as_tensor(batch.images), torch.as_tensor(steps[step].images))
        assert np.array_equal(batch.landmarks, steps[step].landmarks)
        assert np.array_equal(batch.warp_sources, steps[step].warp_sources)
    other = _loader(dataclasses.replace(config, seed=1), fake_people).load(0)
    assert not torch.equal(torch.as_tensor(other.images), torch.as_tensor(steps[0].images))


def test_workers_share_a_step_in_rank_order(config: TrainConfig, fake_people: Any) -> None:
    whole = _loader(config, fake_people).load(3)
    parts = [_loader(config, fake_people, rank, 3).load(3) for rank in range(3)]
    assert sum((part.video_ids for part in parts), ()) == whole.video_ids
    assert torch.equal(torch.cat([torch.as_tensor(part.images) for part in parts]), torch.as_tensor(whole.images))
    with pytest.raises(ValueError, match="4 episodes per step are too few for 5 workers"):
        _loader(config, fake_people, 0, 5)


def test_everybody_is_met_before_one_is_met_again_and_never_in_the_same_motion(
    config: TrainConfig, fake_people: Any
) -> None:
    loader = _loader(config, fake_people)
    batches = [loader.load(step) for step in range(5)]  # twenty episodes, five people
    met = [name for batch in batches for name in batch.video_ids]
    assert [sorted(set(met[i : i + 5])) for i in range(0, 20, 5)] == [sorted(set(met))] * 4
    images = {
        name: [batch.images[i] for batch in batches for i, n in enumerate(batch.video_ids) if n == name] for name in met
    }
    assert all(len({bytes(np.asarray(image)) for image in seen}) == 4 for seen in images.values())


def test_people_are_none_of_a_corpus_of_the_same_seed(config: TrainConfig, fake_people: Any) -> None:
    _loader(config, fake_people).load(0)
    assert {seed for seed, _ in fake_people.drawn} == {config.seed}
    assert min(identity for _, identity in fake_people.drawn) >= FIRST_IDENTITY > 1_000_000


@pytest.mark.slow
def test_an_episode_is_one_person_in_one_scene_at_moments_far_apart(config: TrainConfig, fake_people: Any) -> None:
    loader = _loader(config, fake_people)
    (renderer,) = fake_people.renderers
    for step in range(20):
        renderer.asked.clear()
        loader.load(step)
        for first in range(0, 12, 3):
            people, scenes, motions = zip(*renderer.asked[first : first + 3], strict=True)
            assert len(set(people)) == len(set(scenes)) == 1
            places = sorted(int(motion.number[0]) for motion in motions)
            # Six seconds are 150 frames, of which each of K + 1 = 3 parts has 50: half of one lies between two.
            assert min(np.diff(places)) >= 24
            assert all(len(motion.yaw) == len(motion.number) == 1 for motion in motions)


def test_pictures_are_cropped_by_the_models_rule_from_their_true_points(config: TrainConfig, fake_people: Any) -> None:
    batch = _loader(config, fake_people).load(0)
    (renderer,) = fake_people.renderers
    assert renderer.size == 48  # half as much again as the networks'
    drawn = type(renderer)(48, renderer.draw, renderer.face).frames(*zip(*renderer.asked[:3], strict=True))
    points = drawn.points.numpy()
    affine = crop_affine(points, config.model.crop, 64)
    episode = _loader(config, fake_people).sampler.episodes(0)[0]
    order = [episode.target, *episode.shots]
    assert np.allclose(batch.landmarks[0], to_crop(points[order], affine))
    for ours, image in zip(np.asarray(batch.images[0]), drawn.images.numpy()[order], strict=True):
        assert np.abs(ours.astype(int) - crop(image, affine, 64)).mean() < 6


def test_the_warp_starts_from_the_candidate_nearest_in_pose(config: TrainConfig, fake_people: Any) -> None:
    loader = _loader(dataclasses.replace(config, num_shots=4), fake_people)
    (renderer,) = fake_people.renderers
    chosen = set()
    for step in range(6):
        renderer.asked.clear()
        batch = loader.load(step)
        for number, episode in enumerate(loader.sampler.episodes(step)):
            film = [float(motion.yaw[0]) for _, _, motion in renderer.asked[5 * number : 5 * number + 5]]
            yaw = [film[place] for place in (episode.target, *episode.shots)]
            candidates = yaw[1 : 1 + episode.num_warp_candidates]
            wanted = 1 + min(range(len(candidates)), key=lambda i: abs(candidates[i] - yaw[0]))
            assert batch.warp_sources[number] == wanted
            chosen.add(wanted)
    assert len(chosen) > 1


@pytest.mark.slow
def test_pictures_are_seen_in_some_steps_in_a_row_each_with_a_target_of_its_own(
    config: TrainConfig, fake_people: Any
) -> None:
    config = dataclasses.replace(config, num_shots=4, online=SyntheticConfig(5, seconds=6.0, reuse=3))
    loader = _loader(config, fake_people)
    (renderer,) = fake_people.renderers
    batches, asked = [], []
    for step in range(7):
        batches.append(loader.load(step))
        asked.append(len(renderer.asked))
    assert asked == [20, 20, 20, 40, 40, 40, 60]  # four episodes of five frames
    targets = set()
    for first in (0, 3):
        for batch in batches[first + 1 : first + 3]:
            assert batch.video_ids == batches[first].video_ids
            for ours, theirs in zip(batch.images, batches[first].images, strict=True):
                assert {bytes(np.asarray(frame)) for frame in ours} == {bytes(np.asarray(frame)) for frame in theirs}
        targets |= {bytes(np.asarray(batch.images[0][0])) for batch in batches[first : first + 3]}
    assert len(targets) > 2
    assert len({number for batch in batches for number in batch.numbers}) == 7 * 4  # so that augmentation differs
    # A resume in the middle of them draws them again.
    again = _loader(config, fake_people).load(5)
    assert torch.equal(torch.as_tensor(again.images), torch.as_tensor(batches[5].images))
    assert np.array_equal(again.warp_sources, batches[5].warp_sources)


def test_the_source_says_what_it_is_made_of(config: TrainConfig, fake_people: Any) -> None:
    source = OnlineSource(config, fake_people.people)
    assert len(set(source.video_ids)) == 5
    assert source.counts == {"people": 5}
    others = [
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, online=SyntheticConfig(6, seconds=6.0)),
        dataclasses.replace(config, online=SyntheticConfig(5, seconds=6.0, motion="procedural")),
    ]
    digests = {source.facts.digest, *(OnlineSource(other, fake_people.people).facts.digest for other in others)}
    people = dataclasses.replace(fake_people.people, digest="f" * 64)
    digests.add(OnlineSource(config, people).facts.digest)
    assert len(digests) == 5
    assert OnlineSource(config, fake_people.people).facts == source.facts


def test_a_model_of_them_reads_mediapipes_landmarks_and_no_others(config: TrainConfig, fake_people: Any) -> None:
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, detector="dlib"))
    with pytest.raises(ValueError, match="people drawn online have the landmarks of mediapipe, not of dlib"):
        OnlineSource(other, fake_people.people)


def test_a_run_without_a_data_set_takes_its_episodes_from_them(
    config: TrainConfig, fake_people: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(online, "synthetic_people", lambda config: fake_people.people)
    source = open_source("", config)
    assert isinstance(source, OnlineSource)
    with source.open_loader(config, rank=0, world_size=1, threads=1, device=CPU) as loader:
        assert len(loader.decode(loader.sampler.episodes(0)[:2]).video_ids) == 2
    with pytest.raises(ValueError, match="is no data set"):
        open_source(str(tmp_path), dataclasses.replace(config, online=None))


def test_too_many_people_for_the_steps_are_said_in_one_line(config: TrainConfig, fake_people: Any) -> None:
    source = OnlineSource(config, fake_people.people)
    (note,) = source.notes(dataclasses.replace(config, num_steps=3))  # 12 episodes
    assert note.startswith("each of 5 people is met 2.4 times: fewer --synthetic-identities")
    assert source.notes(dataclasses.replace(config, num_steps=20)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_people": 0}, "num_people must be at least 1, not 0"),
        ({"reuse": 0}, "reuse must be at least 1, not 0"),
        ({"seconds": 0.5}, r"seconds must lie in \[1, 600\], not 0.5"),
        ({"render_size": 8}, r"render_size must lie in \[32, 2048\], not 8"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**changes)


@pytest.mark.parametrize(("image_size", "side"), [(64, 96), (128, 192), (256, 256), (512, 512)])
def test_pictures_are_drawn_larger_than_the_networks_see_them_where_that_is_cheap(image_size: int, side: int) -> None:
    assert SyntheticConfig().side(image_size) == side
    assert SyntheticConfig(render_size=96).side(image_size) == 96
