"""The meta-training loop in plain PyTorch, independent of Ray and MLflow."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from training.checkpoints.bundle import TrainingProvenance
from training.config import TrainConfig
from training.episodes.augmentation import draw_augmentation
from training.episodes.batch import Batch, to_batch
from training.episodes.loader import DecodedEpisodes
from training.episodes.sampler import Episode
from training.episodes.source import Loader, Source
from training.images import to_images
from training.losses.loss_networks import load_loss_networks
from training.losses.perceptual_files import PerceptualFiles
from training.losses.terms import distances
from training.meta_training.checkpoint import initialize_from, resume
from training.meta_training.collectives import Exchange
from training.meta_training.metrics.meter import Meter
from training.meta_training.nan_guard import NanGuard
from training.meta_training.step import Learner, Snapshot
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.models.identity_rows import IdentityRows

_NUM_SAMPLES = 6
_MAX_DECODER_THREADS = 4  # decoding a 256 px frame takes half a millisecond


class Request(Enum):
    """What the observer asks the loop to do after a step."""

    NOTHING = auto()
    CHECKPOINT = auto()
    """Write a checkpoint now, since a machine is about to be reclaimed."""
    STOP = auto()
    """Write a checkpoint and stop."""


class Observer(Protocol):
    """Receives metrics, samples and checkpoints. Every worker calls every method at the same steps."""

    def request(self, step: int) -> Request:
        """Called after each log; returns the same for all workers at a step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def sample(self, step: int, grid: UInt8[np.ndarray, "h w 3"], metrics: Mapping[str, float]) -> None: ...

    def checkpoint(
        self, snapshot: Snapshot, origin: TrainingProvenance, metrics: Mapping[str, float], *, urgent: bool
    ) -> None:
        """Write a checkpoint, during the next steps; if `urgent`, it must be complete when this returns."""


def train(
    config: TrainConfig,
    source: Source,
    observer: Observer,
    exchange: Exchange,
    device: torch.device,
    checkpoint: str | None,
    perceptual_files: PerceptualFiles | None = None,
    start_from: str | None = None,
) -> None:
    """Train to `config.num_steps`, resuming from a checkpoint if one is given.

    Args:
        checkpoint: path or URL of the checkpoint to resume from.
        perceptual_files: where the weights of the published content loss are, if the config uses it.
        start_from: path or URL of the base model of `config.start_from`; not read when resuming.

    Raises:
        ValueError: the checkpoint has another configuration, or the identity rows are more than the GPU's memory.
        NotFiniteError: gradients were still not finite after the maximum number of rollbacks.
    """
    table = IdentityRows(
        source.video_ids,
        config.model.embedding_size,
        learning_rate=config.learning_rate_discriminator,
        seed=config.seed,
    )
    check_memory(table, device)
    learner = Learner(config, table, load_loss_networks(config, perceptual_files), exchange, device)
    if checkpoint is None and start_from is not None:
        initialize_from(start_from, learner)
    origin = None if checkpoint is None else resume(checkpoint, learner)
    threads = min(torch.get_num_threads(), _MAX_DECODER_THREADS)
    with source.open_loader(
        config, rank=exchange.rank, world_size=exchange.world_size, threads=threads, device=device
    ) as loader:
        _steps(learner, source, observer, loader, origin)


def check_memory(table: IdentityRows, device: torch.device) -> None:
    """Raise ValueError if the identity rows alone are more than a GPU's memory."""
    if device.type != "cuda":
        return
    needed = sum(tensor.numel() * tensor.element_size() for tensor in table.state().values())
    there = torch.cuda.get_device_properties(device).total_memory
    if needed > there:
        raise ValueError(
            f"{len(table.video_ids):,} identity rows take {needed / 1e9:.1f} GB and the GPU has {there / 1e9:.1f} GB: "
            "they are not divided among GPUs; train on fewer videos or on GPUs with more memory"
        )


def _steps(
    learner: Learner, source: Source, observer: Observer, loader: Loader, origin: TrainingProvenance | None
) -> None:
    """Make the steps after `origin.step`, up to the last."""
    config, table, device = learner.config, learner.table, learner.device
    first = 0 if origin is None else origin.step
    samples = to_batch(_sample_episodes(loader), table, config.model, device)
    meter, guard = Meter(learner.exchange), NanGuard(learner, origin)
    metrics: dict[str, float] = {}
    for step, decoded in enumerate(meter.waiting(loader.steps(first, config.num_steps)), first + 1):
        # Fetch, update
        draws = draw_augmentation(config.augmentation, config.seed, decoded.numbers, config.num_shots + 1)
        batch = to_batch(decoded, table, config.model, device, draws)
        meter.add(guard.step(batch))
        # Log
        last = step == config.num_steps
        to_log, to_save = (step % every == 0 or last for every in (config.log_every, config.checkpoint_every))
        if to_log or to_save:
            guard.settle()
        request = Request.NOTHING
        if to_log:
            metrics = meter.flush(config.episodes_per_step) | guard.counts() | learner.learning_rates()
            observer.log(step, metrics)
            request = observer.request(step)
        # Sample
        if step % config.sample_every == 0 or last:
            drawn = draw_samples(learner, samples)
            # Fixed episodes make this content loss comparable between steps, unlike that of a step's own episodes.
            fixed = {f"{term}_fixed_episodes": loss for term, loss in _content(learner, samples, drawn).items()}
            observer.sample(step, sample_grid(samples, drawn), fixed)
        # Checkpoint
        urgent = last or request is not Request.NOTHING
        if urgent or (to_save and not guard.in_trouble):
            origin = guard.origin(step, source.name, source.facts.digest)
            observer.checkpoint(guard.keep(), origin, metrics, urgent=urgent)
        if request is Request.STOP:
            break


@torch.no_grad()
def draw_samples(learner: Learner, batch: Batch) -> Float[Tensor, "batch 3 h w"]:
    """Return x_hat of the averaged E and G."""
    embedder, generator = Embedder(learner.config.model), Generator(learner.config.model)
    embedder.load_state_dict(learner.embedder_ema.shadow)
    generator.load_state_dict(learner.generator_ema.shadow)
    embedder, generator = embedder.to(learner.device).eval(), generator.to(learner.device).eval()
    embedding = embedder.embed_shots(batch.shots, batch.shot_landmark_images)
    frame: Tensor = generator(batch.target_landmark_image, generator.adain_values(embedding), batch.warped).frame
    return frame


def sample_grid(batch: Batch, drawn: Float[Tensor, "batch 3 h w"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return a grid with one row per episode: a shot, the landmark image, the warped shot if any, x_hat, the target."""
    columns: list[Tensor] = [batch.shots[:, 0], batch.target_landmark_image, drawn, batch.target]
    if batch.warped is not None:
        columns.insert(2, batch.warped.frame[:, :3])
    rows = [np.hstack(pictures) for pictures in zip(*(to_images(column) for column in columns), strict=True)]
    return np.vstack(rows)


@torch.no_grad()
def _content(learner: Learner, batch: Batch, drawn: Float[Tensor, "batch 3 h w"]) -> dict[str, float]:
    perceptual = learner.loss_networks.perceptual
    terms = distances(perceptual(drawn), perceptual(batch.target))
    return {term: float(loss) for term, loss in terms.items()}


def _sample_episodes(loader: Loader) -> DecodedEpisodes:
    """Return one episode of each of the first videos, the same in every run on the same data."""
    episodes: dict[int, Episode] = {}
    number = 0
    while len(episodes) < min(_NUM_SAMPLES, len(loader.sampler.num_frames)):
        for episode in loader.sampler.episodes(number):
            episodes.setdefault(episode.video, episode)
        number += 1
    chosen = [episodes[video] for video in sorted(episodes)[:_NUM_SAMPLES]]
    return loader.decode(chosen)
