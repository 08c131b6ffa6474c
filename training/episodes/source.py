"""Where episodes come from: the shards of a data set. What a source has to give is the same for people drawn online."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from pipelines import assets, storage
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.reader import ShardDataset, SourceVideo
from pipelines.dataset.shard_cache import ShardCache
from pipelines.faces.person_matte import PersonSegmenter
from training.config import ModelConfig, TrainConfig
from training.episodes.epoch_order import VideoOrder, WindowOrder
from training.episodes.loader import DecodedEpisodes, EpisodeLoader
from training.episodes.online import OnlineSource
from training.episodes.sampler import Episode, EpisodeSampler


class Loader(Protocol):
    """Makes a worker's share of each step, ahead of need."""

    sampler: EpisodeSampler

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """The batches of steps `first` to `last` - 1."""

    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """The pictures of some episodes."""


class SourceDescription(Protocol):
    """What a model card says of the pictures a model was trained on."""

    @property
    def source(self) -> str:
        """In words, or where the films were."""

    @property
    def licence(self) -> str: ...

    @property
    def counts(self) -> Mapping[str, int]:
        """`done`: clips of a data set; `people`: those drawn while training."""

    @property
    def digest(self) -> str:
        """Equal where the pictures are; 64 hex digits."""


class Source(Protocol):
    """Episodes to train on. The same seed gives the same ones, to any number of workers and after a resume."""

    @property
    def name(self) -> str:
        """A path or URL; recorded in checkpoints."""

    @property
    def facts(self) -> SourceDescription: ...

    @property
    def video_ids(self) -> Sequence[str]:
        """One identity row each."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How much there is, for the command's outcome."""

    def notes(self, config: TrainConfig) -> Sequence[str]:
        """What the user should know before training, one line each."""

    def open_loader(
        self, config: TrainConfig, *, rank: int, world_size: int, threads: int, device: torch.device
    ) -> AbstractContextManager[Loader]:
        """The loader of a worker, for the time of the block.

        Args:
            threads: how many may decode at once.
            device: the one that trains; pictures may lie there already.
        """


@dataclass(frozen=True)
class DatasetSource:
    """A data set, and the videos of it that hold K + 1 frames."""

    dataset: ShardDataset
    videos: tuple[SourceVideo, ...]
    num_too_short: int
    """Training videos with fewer frames, which are left out."""
    scratch: Path
    """Local folder for copies of shards."""

    @property
    def name(self) -> str:
        return self.dataset.root

    @property
    def facts(self) -> DatasetManifest:
        return self.dataset.manifest

    @property
    def video_ids(self) -> Sequence[str]:
        return [video.video_id for video in self.videos]

    @property
    def counts(self) -> Mapping[str, int]:
        return {"videos": len(self.videos), "videos_left_out": self.num_too_short}

    def notes(self, config: TrainConfig) -> Sequence[str]:
        shortfall = self.shortfall(config.num_shots)
        return [shortfall] if shortfall else []

    def open_loader(
        self, config: TrainConfig, *, rank: int, world_size: int, threads: int, device: torch.device
    ) -> AbstractContextManager[EpisodeLoader]:
        del device  # JPEGs are decoded on the host
        return open_loader(config, self, rank=rank, world_size=world_size, threads=threads)

    def shortfall(self, num_shots: int) -> str:
        """One line when K is more than every clip of the data set holds, else nothing."""
        most = self.dataset.manifest.episode_k_max
        if num_shots <= most:
            return ""
        total = len(self.videos) + self.num_too_short
        return (
            f"K = {num_shots} is more than the {most} shots that every clip of {self.dataset.root} holds: "
            f"{self.num_too_short} of {total} training videos have fewer than {num_shots + 1} frames and are left out"
        )


def open_source(root: str, config: TrainConfig, scratch: str | None = None) -> Source:
    """The people whom `config.online` describes, else the data set at `root`.

    Raises:
        ValueError, OSError: as `open_dataset` and `online.synthetic_studio` do.
        ModuleNotFoundError: a package that draws people is not installed.
    """
    if config.online is not None:
        return OnlineSource(config)
    return open_dataset(root, config, scratch)


def open_dataset(root: str, config: TrainConfig, scratch: str | None = None) -> DatasetSource:
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
    return DatasetSource(dataset, usable, len(videos) - len(usable), folder)


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
    config: TrainConfig, data: DatasetSource, *, rank: int = 0, world_size: int = 1, threads: int = 1
) -> Iterator[EpisodeLoader]:
    """The loader of a worker, for the time of the block."""
    order, cache = VideoOrder(len(data.videos), config.seed), None
    if config.read_order == "shards":
        order = WindowOrder([video.url for video in data.videos], config.window_shards, config.seed)
        if not storage.is_local(data.dataset.root):
            cache = ShardCache(data.scratch, data.dataset.shards("train"))
    counts = [len(video.frames) for video in data.videos]
    sampler = EpisodeSampler(counts, config.num_shots, config.episodes_per_step, config.seed, order)
    try:
        yield EpisodeLoader(
            data.dataset,
            data.videos,
            sampler,
            config.model.frame_size,
            rank=rank,
            world_size=world_size,
            threads=threads,
            cache=cache,
            segmenter=PersonSegmenter() if config.model.warp_prior else None,
        )
    finally:
        if cache is not None:
            cache.close()
