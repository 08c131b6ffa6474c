"""The meta-training loop in plain PyTorch: needs no Ray, no MLflow and no files of its own."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines import assets, storage
from pipelines.shard_cache import ShardCache
from pipelines.shards import ShardDataset, SourceVideo
from training import losses
from training.augmentation import draw
from training.checkpoint import Origin, resume
from training.config import ModelConfig, TrainConfig
from training.episodes import DecodedEpisodes, Episode, EpisodeLoader, EpisodeSampler, to_batch
from training.exchange import Exchange
from training.guard import Guard
from training.meter import Meter
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.order import VideoOrder, WindowOrder
from training.perceptual import load_perceptual
from training.perceptual_weights import PerceptualFiles
from training.pictures import to_images
from training.row_table import RowTable
from training.step import Batch, Learner

_NUM_SAMPLES = 6
_MOST_DECODERS = 4  # threads; a 256 px frame takes half a millisecond


class Request(Enum):
    """What the world outside wants of the loop."""

    NOTHING = auto()
    CHECKPOINT = auto()
    """A checkpoint now: a machine is about to be taken away."""
    STOP = auto()
    """A checkpoint, and then the end."""


class Observer(Protocol):
    """Who is told how training goes. Every worker calls every method, at the same steps."""

    def request(self, step: int) -> Request:
        """Asked after each log; all workers get the same answer for a step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def sample(self, step: int, grid: UInt8[np.ndarray, "h w 3"], metrics: Mapping[str, float]) -> None: ...

    def checkpoint(self, learner: Learner, origin: Origin, metrics: Mapping[str, float], *, urgent: bool) -> None:
        """Write one; if `urgent`, it has to lie in its place when this returns."""


@dataclass(frozen=True)
class Data:
    """A data set, and the videos of it that hold K + 1 frames."""

    dataset: ShardDataset
    videos: tuple[SourceVideo, ...]
    num_short: int
    """Training videos with fewer frames, which are left out."""
    scratch: Path
    """Local folder for copies of shards."""

    def shortfall(self, num_shots: int) -> str:
        """One line when K is more than every clip of the data set holds, else nothing."""
        most = self.dataset.manifest.episode_k_max
        if num_shots <= most:
            return ""
        total = len(self.videos) + self.num_short
        return (
            f"K = {num_shots} is more than the {most} shots that every clip of {self.dataset.root} holds: "
            f"{self.num_short} of {total} training videos have fewer than {num_shots + 1} frames and are left out"
        )


def open_data(root: str, config: TrainConfig, scratch: str | None = None) -> Data:
    """The training videos that an episode can be drawn from.

    Args:
        root: path or URL of the shards.
        scratch: local folder for copies of shards, for the read order `shards`; by default in the cache folder.

    Raises:
        ValueError: no data set at `root`, other landmarks or another crop than the model's, or no video long enough.
    """
    dataset = ShardDataset(root)
    check_fits(dataset, config.model)
    videos = dataset.videos("train")
    usable = tuple(video for video in videos if len(video.frames) > config.num_shots)
    if not usable:
        raise ValueError(
            f"none of the {len(videos)} training videos of {root} has K + 1 = {config.num_shots + 1} frames"
        )
    folder = assets.cache_folder() / "shards" if scratch is None else Path(scratch)
    return Data(dataset, usable, len(videos) - len(usable), folder)


def check_fits(dataset: ShardDataset, model: ModelConfig) -> None:
    """Raises ValueError when a data set was made with another landmark detector or crop rule than a model's."""
    manifest = dataset.manifest
    for name, theirs, ours in (
        ("landmark detector", manifest.detector, model.detector),
        ("crop rule", manifest.crop_rule, model.crop),
    ):
        if theirs != ours:
            raise ValueError(f"{dataset.root} was made with {name} {theirs}, the model wants {ours}")


@contextlib.contextmanager
def open_loader(
    config: TrainConfig, data: Data, *, rank: int = 0, world_size: int = 1, threads: int = 1
) -> Iterator[EpisodeLoader]:
    """The loader of a worker, for the time of the block."""
    order, cache = VideoOrder(len(data.videos), config.seed), None
    if config.read_order == "shards":
        order = WindowOrder([video.url for video in data.videos], config.window_shards, config.seed)
        if not storage.is_local(data.dataset.root):
            cache = ShardCache(data.scratch, data.dataset.shards("train"))
    counts = [len(video.frames) for video in data.videos]
    sampler = EpisodeSampler(counts, config.num_shots, config.episodes_per_step, config.seed, order)
    size = config.model.image_size
    try:
        yield EpisodeLoader(
            data.dataset, data.videos, sampler, size, rank=rank, world_size=world_size, threads=threads, cache=cache
        )
    finally:
        if cache is not None:
            cache.close()


def train(
    config: TrainConfig,
    data: Data,
    observer: Observer,
    exchange: Exchange,
    device: torch.device,
    checkpoint: str | None,
    perceptual_files: PerceptualFiles | None = None,
) -> None:
    """Train to `config.num_steps`, from a checkpoint if there is one.

    Args:
        perceptual_files: where weights lie that the config asks for and no registry carries.

    Raises:
        ValueError: the checkpoint belongs to another configuration.
        NotFiniteError: gradients stayed not finite, however often training went back to its last checkpoint.
    """
    table = RowTable(
        [video.video_id for video in data.videos],
        config.model.embedding_size,
        learning_rate=config.learning_rate_discriminator,
        seed=config.seed,
    )
    learner = Learner(config, table, load_perceptual(config, perceptual_files), exchange, device)
    origin = None if checkpoint is None else resume(checkpoint, learner)
    threads = min(torch.get_num_threads(), _MOST_DECODERS)
    with open_loader(config, data, rank=exchange.rank, world_size=exchange.world_size, threads=threads) as loader:
        _steps(learner, data, observer, loader, origin)


def _steps(learner: Learner, data: Data, observer: Observer, loader: EpisodeLoader, origin: Origin | None) -> None:
    """The steps after `origin`'s to the last."""
    config, table, device = learner.config, learner.table, learner.device
    first = 0 if origin is None else origin.step
    samples = to_batch(_sample_episodes(loader, data), table, config.model, device)
    meter, guard = Meter(learner.exchange), Guard(learner, origin)
    metrics: dict[str, float] = {}
    for step, decoded in enumerate(meter.waiting(loader.steps(first, config.num_steps)), first + 1):
        # Fetch, update
        draws = draw(config.augmentation, config.seed, decoded.numbers)
        batch = to_batch(decoded, table, config.model, device, draws)
        meter.add(guard.step(batch))
        # Log
        last = step == config.num_steps
        request = Request.NOTHING
        if step % config.log_every == 0 or last:
            metrics = meter.flush(config.episodes_per_step) | guard.counts() | learner.learning_rates()
            observer.log(step, metrics)
            request = observer.request(step)
        # Sample
        if step % config.sample_every == 0 or last:
            drawn = draw_samples(learner, samples)
            # A step's own content loss says more of its episodes than of the model; these are always the same.
            fixed = {f"{term}_fixed_episodes": loss for term, loss in _content(learner, samples, drawn).items()}
            observer.sample(step, sample_grid(samples, drawn), fixed)
        # Checkpoint
        urgent = last or request is not Request.NOTHING
        if urgent or (step % config.checkpoint_every == 0 and not guard.in_trouble):
            observer.checkpoint(learner, guard.origin(step, data.dataset), metrics, urgent=urgent)
            guard.keep()
        if request is Request.STOP:
            break


@torch.no_grad()
def draw_samples(learner: Learner, batch: Batch) -> Float[Tensor, "batch 3 h w"]:
    """x_hat of the averaged E and G."""
    embedder, generator = Embedder(learner.config.model), Generator(learner.config.model)
    embedder.load_state_dict(learner.embedder_ema.shadow)
    generator.load_state_dict(learner.generator_ema.shadow)
    embedder, generator = embedder.to(learner.device).eval(), generator.to(learner.device).eval()
    embedding = embedder.embed_shots(batch.shots, batch.shot_landmark_images)
    frame: Tensor = generator(batch.target_landmark_image, generator.adain_values(embedding), batch.warped).frame
    return frame


def sample_grid(batch: Batch, drawn: Float[Tensor, "batch 3 h w"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Rows of pictures, one an episode: a shot, the landmarks, the warp if there is one, what was drawn, the truth."""
    columns: list[Tensor] = [batch.shots[:, 0], batch.target_landmark_image, drawn, batch.target]
    if batch.warped is not None:
        columns.insert(2, batch.warped.frame)
    rows = [np.hstack(pictures) for pictures in zip(*(to_images(column) for column in columns), strict=True)]
    return np.vstack(rows)


@torch.no_grad()
def _content(learner: Learner, batch: Batch, drawn: Float[Tensor, "batch 3 h w"]) -> dict[str, float]:
    terms = losses.content(learner.perceptual(drawn), learner.perceptual(batch.target))
    return {term: float(loss) for term, loss in terms.items()}


def _sample_episodes(loader: EpisodeLoader, data: Data) -> DecodedEpisodes:
    """One episode of each of the first videos, the same in every run on the same data."""
    episodes: dict[int, Episode] = {}
    number = 0
    while len(episodes) < min(_NUM_SAMPLES, len(data.videos)):
        for episode in loader.sampler.episodes(number):
            episodes.setdefault(episode.video, episode)
        number += 1
    chosen = [episodes[video] for video in sorted(episodes)[:_NUM_SAMPLES]]
    return loader.decode(chosen)
