"""People drawn while training, with a studio of flat cartoons in place of the renderer."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.faces.crop import crop, crop_affine, to_crop
from training.checkpoints.bundle import TrainingProvenance, load_bundle
from training.checkpoints.model_card import Training, model_card
from training.config import SyntheticConfig, TrainConfig
from training.episodes import online
from training.episodes.online import FIRST_IDENTITY, OnlineLoader, OnlineSource, SyntheticPeople
from training.episodes.source import open_source
from training.losses import loss_networks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.loop import Request, train
from training.meta_training.step import Learner

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]


@dataclasses.dataclass(frozen=True)
class Motion:
    fps: float
    yaw: np.ndarray
    number: np.ndarray
    """Of the frame in the whole motion."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    images: torch.Tensor
    points: torch.Tensor


class Cartoons:
    """Renders a face whose shade is the person's, whose place is the scene's."""

    def __init__(self, size: int, draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> None:
        self.size, self.draw, self.face = size, draw, face
        self.asked: list[tuple[Any, Any, Motion]] = []

    def frames(self, people: Sequence[int], scenes: Sequence[float], motions: Sequence[Motion]) -> Pictures:
        triples = [*zip(people, scenes, motions, strict=True)]
        self.asked += triples
        side = self.size
        points = [self.face(side * 0.4, side / 2 + place, side / 2, yaw=float(m.yaw[0])) for _, place, m in triples]
        images = [self.draw(each, side, side, shade) for each, (shade, _, _) in zip(points, triples, strict=True)]
        return Pictures(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(points)))


class Cast:
    """A studio, and what was asked of it."""

    def __init__(self, draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> None:
        self.renderers: list[Cartoons] = []
        self.people: list[tuple[int, int]] = []

        def renderer(size: int, device: str, at_once: int) -> Cartoons:
            self.renderers.append(Cartoons(size, draw, face))
            return self.renderers[-1]

        def person(seed: int, identity: int) -> int:
            self.people.append((seed, identity))
            return int(np.random.default_rng((seed, identity)).integers(100, 240))

        self.studio = SyntheticPeople(person, self._scene, self._motion, renderer, "e" * 64)

    @staticmethod
    def _scene(seed: int, identity: int, video: int) -> float:
        return float(np.random.default_rng((seed, identity, video)).normal())

    @staticmethod
    def _motion(random: np.random.Generator, num_frames: int, fps: float) -> Motion:
        return Motion(fps, 12 * random.standard_normal(num_frames), np.arange(num_frames))


@pytest.fixture
def cast(draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> Cast:
    return Cast(draw, face)


@pytest.fixture
def config(tiny_train: MakeTrain) -> TrainConfig:
    return tiny_train(warp_prior=True, online=SyntheticConfig(5, seconds=6.0, reuse=1))


def _loader(config: TrainConfig, cast: Cast, rank: int = 0, world_size: int = 1) -> OnlineLoader:
    return OnlineLoader(config, cast.studio, rank=rank, world_size=world_size, device=CPU)


def test_a_step_is_a_function_of_the_seed_and_its_number(config: TrainConfig, cast: Cast) -> None:
    first, again = _loader(config, cast), _loader(config, cast)
    steps = [*first.steps(0, 3)]
    for step in (2, 0, 1):
        batch = again.load(step)
        assert batch.video_ids == steps[step].video_ids
        assert torch.equal(torch.as_tensor(batch.images), torch.as_tensor(steps[step].images))
        assert np.array_equal(batch.landmarks, steps[step].landmarks)
        assert np.array_equal(batch.warp_sources, steps[step].warp_sources)
    other = _loader(dataclasses.replace(config, seed=1), cast).load(0)
    assert not torch.equal(torch.as_tensor(other.images), torch.as_tensor(steps[0].images))


def test_workers_share_a_step_in_rank_order(config: TrainConfig, cast: Cast) -> None:
    whole = _loader(config, cast).load(3)
    parts = [_loader(config, cast, rank, 3).load(3) for rank in range(3)]
    assert sum((part.video_ids for part in parts), ()) == whole.video_ids
    assert torch.equal(torch.cat([torch.as_tensor(part.images) for part in parts]), torch.as_tensor(whole.images))
    with pytest.raises(ValueError, match="4 episodes per step are too few for 5 workers"):
        _loader(config, cast, 0, 5)


def test_everybody_is_met_before_one_is_met_again_and_never_in_the_same_motion(config: TrainConfig, cast: Cast) -> None:
    loader = _loader(config, cast)
    batches = [loader.load(step) for step in range(5)]  # twenty episodes, five people
    met = [name for batch in batches for name in batch.video_ids]
    assert [sorted(set(met[i : i + 5])) for i in range(0, 20, 5)] == [sorted(set(met))] * 4
    images = {
        name: [batch.images[i] for batch in batches for i, n in enumerate(batch.video_ids) if n == name] for name in met
    }
    assert all(len({bytes(np.asarray(image)) for image in seen}) == 4 for seen in images.values())


def test_people_are_none_of_a_corpus_of_the_same_seed(config: TrainConfig, cast: Cast) -> None:
    _loader(config, cast).load(0)
    assert {seed for seed, _ in cast.people} == {config.seed}
    assert min(identity for _, identity in cast.people) >= FIRST_IDENTITY > 1_000_000


def test_an_episode_is_one_person_in_one_scene_at_moments_far_apart(config: TrainConfig, cast: Cast) -> None:
    loader = _loader(config, cast)
    (renderer,) = cast.renderers
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


def test_pictures_are_cropped_by_the_models_rule_from_their_true_points(config: TrainConfig, cast: Cast) -> None:
    batch = _loader(config, cast).load(0)
    (renderer,) = cast.renderers
    assert renderer.size == 48  # half as much again as the networks'
    drawn = Cartoons(48, renderer.draw, renderer.face).frames(*zip(*renderer.asked[:3], strict=True))
    points = drawn.points.numpy()
    affine = crop_affine(points, config.model.crop, 64)
    episode = _loader(config, cast).sampler.episodes(0)[0]
    order = [episode.target, *episode.shots]
    assert np.allclose(batch.landmarks[0], to_crop(points[order], affine))
    for ours, image in zip(np.asarray(batch.images[0]), drawn.images.numpy()[order], strict=True):
        assert np.abs(ours.astype(int) - crop(image, affine, 64)).mean() < 6


def test_the_warp_starts_from_the_candidate_nearest_in_pose(config: TrainConfig, cast: Cast) -> None:
    loader = _loader(dataclasses.replace(config, num_shots=4), cast)
    (renderer,) = cast.renderers
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


def test_pictures_are_seen_in_some_steps_in_a_row_each_with_a_target_of_its_own(
    config: TrainConfig, cast: Cast
) -> None:
    config = dataclasses.replace(config, num_shots=4, online=SyntheticConfig(5, seconds=6.0, reuse=3))
    loader = _loader(config, cast)
    (renderer,) = cast.renderers
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
    again = _loader(config, cast).load(5)
    assert torch.equal(torch.as_tensor(again.images), torch.as_tensor(batches[5].images))
    assert np.array_equal(again.warp_sources, batches[5].warp_sources)


class Recorder:
    """Keeps what the loop logs; writes bundles."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.losses: list[float] = []
        self.origins: list[TrainingProvenance] = []

    def request(self, step: int) -> Request:
        return Request.STOP if step == self.stop_at else Request.NOTHING

    def log(self, step: int, metrics: Any) -> None:
        self.losses.append(metrics["generator"])

    def sample(self, step: int, grid: np.ndarray, metrics: Any) -> None:
        assert grid.shape == (5 * 32, 5 * 32, 3)  # five people, five columns

    def checkpoint(self, learner: Learner, origin: TrainingProvenance, metrics: Any, *, urgent: bool) -> None:
        self.origins.append(origin)
        save_bundle(str(self.folder / str(origin.step)), learner, origin)


@pytest.fixture
def run(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_perceptual: PerceptualNetwork
) -> Callable[..., Recorder]:
    """`run(config, "name", stop_at=..., checkpoint=...)`: the loop; its recorder."""
    monkeypatch.setattr(loss_networks, "load_perceptual", lambda config, files: random_perceptual)

    def make(config: TrainConfig, name: str, stop_at: int | None = None, checkpoint: str | None = None) -> Recorder:
        recorder = Recorder(tmp_path / name, stop_at)
        train(config, OnlineSource(config, cast.studio), recorder, SingleProcess(), CPU, checkpoint)
        return recorder

    return make


def test_an_interrupted_run_ends_with_the_very_same_weights_and_losses(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    config = dataclasses.replace(config, num_steps=4, online=SyntheticConfig(5, seconds=6.0, reuse=3))
    whole = run(config, "whole")
    first = run(config, "first", stop_at=2)
    second = run(config, "second", checkpoint=str(tmp_path / "first" / "2"))
    assert first.losses + second.losses == whole.losses
    for file in sorted(path.name for path in (tmp_path / "whole" / "4").iterdir()):
        if file not in ("manifest.json", "optimizer.pt"):
            paths = [tmp_path / name / "4" / file for name in ("whole", "second")]
            assert paths[0].read_bytes() == paths[1].read_bytes(), file


def test_a_checkpoint_says_who_was_drawn_and_keeps_only_rows_that_were_met(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    config = dataclasses.replace(config, num_steps=1)
    recorder = run(config, "run")
    model = load_bundle(str(tmp_path / "run" / "1"))
    assert model.config.online == config.online
    assert model.config.model.detector == "mediapipe"
    assert recorder.origins[0].dataset == "online:people=5,seed=0,motion=clips"
    assert len(pq.read_table(tmp_path / "run" / "1" / "identity_rows.parquet")) == 4  # of five, in four episodes


def test_another_number_of_people_is_another_run(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    run(dataclasses.replace(config, num_steps=1), "run")
    more = dataclasses.replace(config, num_steps=2, online=SyntheticConfig(6, seconds=6.0, reuse=1))
    with pytest.raises(ValueError, match=r"another configuration: online.num_people: 5 -> 6"):
        run(more, "more", checkpoint=str(tmp_path / "run" / "1"))


def test_the_source_says_what_it_is_made_of(config: TrainConfig, cast: Cast) -> None:
    source = OnlineSource(config, cast.studio)
    assert len(set(source.video_ids)) == 5
    assert source.counts == {"people": 5}
    others = [
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, online=SyntheticConfig(6, seconds=6.0)),
        dataclasses.replace(config, online=SyntheticConfig(5, seconds=6.0, motion="procedural")),
    ]
    digests = {source.facts.digest, *(OnlineSource(other, cast.studio).facts.digest for other in others)}
    studio = dataclasses.replace(cast.studio, digest="f" * 64)
    digests.add(OnlineSource(config, studio).facts.digest)
    assert len(digests) == 5
    assert OnlineSource(config, cast.studio).facts == source.facts


def test_a_model_of_them_reads_mediapipes_landmarks_and_no_others(config: TrainConfig, cast: Cast) -> None:
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, detector="dlib"))
    with pytest.raises(ValueError, match="people drawn online have the landmarks of mediapipe, not of dlib"):
        OnlineSource(other, cast.studio)


def test_a_run_without_a_data_set_takes_its_episodes_from_them(
    config: TrainConfig, cast: Cast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(online, "synthetic_people", lambda config: cast.studio)
    source = open_source("", config)
    assert isinstance(source, OnlineSource)
    with source.open_loader(config, rank=0, world_size=1, threads=1, device=CPU) as loader:
        assert len(loader.decode(loader.sampler.episodes(0)[:2]).video_ids) == 2
    with pytest.raises(ValueError, match="is no data set"):
        open_source(str(tmp_path), dataclasses.replace(config, online=None))


def test_too_many_people_for_the_steps_are_said_in_one_line(config: TrainConfig, cast: Cast) -> None:
    source = OnlineSource(config, cast.studio)
    (note,) = source.notes(dataclasses.replace(config, num_steps=3))  # 12 episodes
    assert note.startswith("each of 5 people is met 2.4 times: fewer --synthetic-identities")
    assert source.notes(dataclasses.replace(config, num_steps=20)) == []


def test_the_card_of_such_a_model_names_no_data_set_to_go_back_to(config: TrainConfig, cast: Cast) -> None:
    facts = OnlineSource(config, cast.studio).facts
    training = Training("demo", "sfumato meta-train demo --synthetic -o run", "9.8.7", ("then",), "now")
    card = model_card(config, TrainingProvenance(3, 12, "online:people=5", facts.digest), facts, training, {})
    assert "5 synthetic people, drawn while training from seed 0, licence CC0" in card
    assert "Nobody's face was shown in training" in card
    assert "With version 9.8.7 of the code." in card
    assert "sfumato forget" not in card
    assert "clips, digest" not in card


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
