"""It learns: the published form (no warp prior) of two people on real clips, and frames of them that it never saw."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.commands.preprocess import Options
from pipelines.commands.preprocess import run as preprocess
from pipelines.dataset.reader import ShardDataset
from pipelines.faces.identity.sface import FaceRecogniser
from pipelines.faces.person_matte import PersonSegmenter
from training.config import LossWeights, ModelConfig, TrainConfig
from training.episodes.batch import Batch, to_batch
from training.episodes.loader import DecodedEpisodes, EpisodeLoader
from training.episodes.sampler import Episode, EpisodeSampler
from training.images import to_images
from training.losses.loss_networks import load_loss_networks
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.models.identity_rows import IdentityRows

_SIZE = 32
_SHOTS = 2
_HELD_OUT = 6  # frames of each person
_MOST_STEPS = 1000  # about 450 do; how many, rounding decides
_CHECK_EVERY = 50
_PEOPLE = {"driver": "clip_carphone", "man": "clip_single_face"}
CPU = torch.device("cpu")


def psnr(images: np.ndarray, truth: np.ndarray) -> float:
    """Mean over frames, in dB."""
    errors = np.square(images.astype(float) - truth.astype(float)).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / errors)))


def make_config() -> TrainConfig:
    model = ModelConfig(
        image_size=_SIZE,
        generator_channels=(16, 32, 64),
        embedder_channels=(16, 32, 64),
        num_bottleneck_blocks=2,
        attention_size_down=0,
        attention_size_up=0,
        warp_prior=False,
    )
    return TrainConfig(
        model=model,
        losses=LossWeights(content=1.0, adversarial=0.3),
        num_shots=_SHOTS,
        episodes_per_step=4,
        learning_rate=2e-3,
        learning_rate_discriminator=1e-3,
        discriminator_updates=1,
        ema_decay=0.97,
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("learning")
    for name, clip in _PEOPLE.items():
        (folder / "clips").mkdir(exist_ok=True)
        (folder / "clips" / f"{name}.mp4").symlink_to(assets.fetch(clip))
    source, root = str(folder / "clips"), str(folder / "set")
    none = {"val_fraction": 0.0, "test_fraction": 0.0}
    preprocess(Options(source, root, frames_per_clip=32, size=96, workers=1, **none))
    return ShardDataset(root)


class Student:
    """The averaged E and G of a learner, and the frames they never saw."""

    def __init__(self, learner: Learner, batch: Batch) -> None:
        self.embedder, self.generator = Embedder(learner.config.model).eval(), Generator(learner.config.model).eval()
        self.embedder.load_state_dict(learner.embedder_ema.shadow)
        self.generator.load_state_dict(learner.generator_ema.shadow)
        self.batch = batch

    @torch.no_grad()
    def draw(self, order: Sequence[int]) -> np.ndarray:
        """The held-out frames' landmarks with the embeddings of the episodes in `order`, RGB 0..255."""
        embedding = self.embedder.embed_shots(self.batch.shots, self.batch.shot_landmark_images)
        values = self.generator.adain_values(embedding[[*order]])
        return to_images(self.generator(self.batch.target_landmark_image, values).frame)


def baselines(decoded: DecodedEpisodes, warped: Batch, part: slice) -> dict[str, float]:
    """What the same shots give without a network, in dB, for a part of the episodes."""
    truth, shots, landmarks = decoded.images[part, 0], decoded.images[part, 1:], decoded.landmarks[part]
    distances = np.linalg.norm(landmarks[:, 1:] - landmarks[:, :1], axis=-1).mean(axis=-1)
    assert warped.warped is not None
    return {
        "static portrait": psnr(shots[:, 0], truth),
        "mean frame": psnr(shots.mean(axis=1), truth),
        "nearest frame": psnr(shots[np.arange(len(shots)), distances.argmin(axis=1)], truth),
        "warp alone": psnr(to_images(warped.warped.frame[:, :3])[part], truth),
    }


def says_whose(as_they_are: np.ndarray, exchanged: np.ndarray) -> bool:
    """Each with the own embedding is like themselves; with the other's no more than a quarter of that lead is left.

    How far they move over is a matter of the last digits: on some processors either stays between the two.
    """
    leads, left = (csim.diagonal() - csim[[0, 1], [1, 0]] for csim in (as_they_are, exchanged))
    return bool((leads > 0.15).all() and (left < leads / 4).all())


@pytest.mark.long  # weights where they are not cached, and some minutes of training
def test_frames_never_seen_are_drawn_better_than_by_any_baseline_and_the_embedding_says_whose(
    dataset: ShardDataset,
) -> None:
    config, videos = make_config(), dataset.videos("train")
    held_out = [video.frames[2::5][:_HELD_OUT] for video in videos]
    seen = [tuple(f for f in video.frames if f not in out) for video, out in zip(videos, held_out, strict=True)]
    sampler = EpisodeSampler([len(frames) for frames in seen], _SHOTS, config.episodes_per_step, seed=0)
    loader = EpisodeLoader(dataset, [replace(v, frames=f) for v, f in zip(videos, seen, strict=True)], sampler, _SIZE)
    # Targets that training never sees, shots that it does.
    everything = [replace(v, frames=(*out, *f)) for v, out, f in zip(videos, held_out, seen, strict=True)]
    episodes = [Episode(person, (8, 20), target, 1) for person in range(len(_PEOPLE)) for target in range(_HELD_OUT)]
    decoded = EpisodeLoader(dataset, everything, sampler, _SIZE).decode(episodes)
    with_warp = replace(config.model, warp_prior=True)
    segmenter = PersonSegmenter()
    finer = EpisodeLoader(dataset, everything, sampler, with_warp.frame_size, segmenter=segmenter).decode(episodes)
    truth, points = decoded.images[:, 0], decoded.landmarks[:, 0]
    table = IdentityRows([video.video_id for video in videos], config.model.embedding_size, learning_rate=1e-3)
    learner = Learner(config, table, load_loss_networks(config), SingleProcess(), CPU)
    batch = to_batch(decoded, table, config.model, CPU)
    # Only the driver's: the man moves so little that another frame of his is nearly the true one.
    moves = slice(_HELD_OUT)
    bars = baselines(decoded, to_batch(finer, table, with_warp, CPU), moves)
    own = [*range(len(truth))]
    swapped = own[_HELD_OUT:] + own[:_HELD_OUT]
    recogniser = FaceRecogniser()
    # Of each person, what the recogniser makes of the true frames.
    people = recogniser.embed(truth, points).reshape(len(_PEOPLE), _HELD_OUT, -1).mean(axis=1)

    def likeness(images: np.ndarray) -> np.ndarray:
        """CSIM of the drawn frames: row by whose landmarks they have, column to whom."""
        csim: np.ndarray = recogniser.embed(images, points) @ people.T
        return csim.reshape(len(_PEOPLE), _HELD_OUT, -1).mean(axis=1)

    reached = [psnr(Student(learner, batch).draw(own)[moves], truth[moves])]
    for step, batches in enumerate(loader.steps(0, _MOST_STEPS), 1):
        learner.step(to_batch(batches, table, config.model, CPU))
        if step % _CHECK_EVERY == 0:
            student = Student(learner, batch)
            drawn = student.draw(own)
            reached.append(psnr(drawn[moves], truth[moves]))
            as_they_are, exchanged = likeness(drawn), likeness(student.draw(swapped))
            if reached[-1] > max(bars.values()) + 0.3 and says_whose(as_they_are, exchanged):
                break
    assert reached[-1] > max(bars.values()) + 0.3, (bars, reached)
    assert reached[0] < min(bars.values())
    assert says_whose(as_they_are, exchanged), (as_they_are, exchanged)
