"""The published form (no warp prior) learns one real clip."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.jobs.preprocess import Options
from pipelines.jobs.preprocess import run as preprocess
from pipelines.shards import ShardDataset
from training.config import LossWeights, ModelConfig, TrainConfig
from training.episodes import Episode, EpisodeLoader, EpisodeSampler, to_batch
from training.exchange import SingleProcess
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.perceptual import load_perceptual
from training.pictures import to_images
from training.row_table import RowTable
from training.step import Batch, Learner

_SIZE = 32
_MOST_STEPS = 800  # about 450 do
_CHECK_EVERY = 25
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
        perceptual="vgg16",
        num_shots=1,
        episodes_per_step=6,
        learning_rate=2e-3,
        learning_rate_discriminator=1e-3,
        discriminator_updates=1,
        ema_decay=0.97,
    )


@torch.no_grad()
def reconstruct(learner: Learner, batch: Batch) -> np.ndarray:
    """Averaged E and G on the targets of a batch, RGB 0..255."""
    embedder, generator = Embedder(learner.config.model).eval(), Generator(learner.config.model).eval()
    embedder.load_state_dict(learner.embedder_ema.shadow)
    generator.load_state_dict(learner.generator_ema.shadow)
    values = generator.adain_values(embedder.embed_shots(batch.shots, batch.shot_landmark_images))
    return to_images(generator(batch.target_landmark_image, values).frame)


@pytest.mark.slow  # 75 MB of film and weights where they are not cached, and one or two minutes of training
def test_frames_never_seen_are_reconstructed_2_db_better_than_by_the_mean_frame(tmp_path: Path) -> None:
    root = str(tmp_path / "set")
    preprocess(
        Options(
            str(assets.fetch("clip_cap12")),
            root,
            frames_per_clip=32,
            size=96,
            val_fraction=0.0,
            test_fraction=0.0,
            workers=1,
        )
    )
    dataset, config = ShardDataset(root), make_config()
    (video,) = dataset.videos("train")
    held_out, seen = video.frames[2::5], tuple(f for number, f in enumerate(video.frames) if number % 5 != 2)
    assert len(held_out) == 6
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg, _ in dataset.read(seen)]
    mean = np.mean([cv2.resize(p, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for p in pictures], axis=0)

    table = RowTable([video.video_id], config.model.embedding_size, learning_rate=1e-3)
    learner = Learner(config, table, load_perceptual(config), SingleProcess(), CPU)
    sampler = EpisodeSampler([len(seen)], config.num_shots, config.episodes_per_step, seed=0)
    loader = EpisodeLoader(dataset, (replace(video, frames=seen),), sampler, _SIZE)
    # Targets held out, shots seen.
    everything = EpisodeLoader(dataset, (replace(video, frames=held_out + seen),), sampler, _SIZE)
    decoded = everything.decode([Episode(0, (9,), target, 1) for target in range(len(held_out))])
    truth, batch = decoded.images[:, 0], to_batch(decoded, table, config.model, CPU)

    # The mean frame of these crops stands at 23.5 dB, so that the bar is the 25.5 dB of a face one recognises.
    wanted = psnr(mean[None], truth) + 2
    reached = [psnr(reconstruct(learner, batch), truth)]
    for step, episodes in enumerate(loader.steps(0, _MOST_STEPS), 1):
        learner.step(to_batch(episodes, table, config.model, CPU))
        if step % _CHECK_EVERY == 0:
            reached.append(psnr(reconstruct(learner, batch), truth))
            if reached[-1] > wanted:
                break
    assert reached[-1] > wanted, f"{[round(value, 1) for value in reached]} dB every {_CHECK_EVERY} steps"
    assert reached[0] < wanted - 10
