"""Sources of episodes: the protocol, and the shards of a data set. Synthetic people are in training.episodes.online."""

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
from training.episodes.shared_index import MappedVideos, open_videos


class Loader(Protocol):
    """Loads a worker's share of each step, ahead of its use."""

    sampler: EpisodeSampler

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """Yield the batches of steps `first` to `last` - 1."""

    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """Return the frames of the given episodes."""


class SourceDescription(Protocol):
    """Description of training data for the model card."""

    @property
    def source(self) -> str:
        """Description, or location of the videos."""

    @property
    def licence(self) -> str: ...

    @property
    def counts(self) -> Mapping[str, int]:
        """`done`: clips of a data set; `people`: synthetic people."""

    @property
    def digest(self) -> str:
        """64 hex digits that identify the data."""


class Source(Protocol):
    """Episodes to train on. A seed determines them, independent of resumes and the number of workers."""

    @property
    def name(self) -> str:
        """Path, URL or description; recorded in checkpoints."""

    @property
    def facts(self) -> SourceDescription: ...

    @property
    def video_ids(self) -> Sequence[str]:
        """One identity row each."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Amounts of data, for the command's result."""

    def notes(self, config: TrainConfig) -> Sequence[str]:
        """Return warnings for the user before training, one line each."""

    def open_loader(
        self, config: TrainConfig, *, rank: int, world_size: int, threads: int, device: torch.device
    ) -> AbstractContextManager[Loader]:
        """Open a worker's loader for the duration of the block.

        Args:
            threads: number of decoding threads.
            device: the training device, to which frames may be loaded directly.
        """


@dataclass(frozen=True)
class DatasetSource:
    """A data set and its training videos with at least K + 1 frames."""

    dataset: ShardDataset
    videos: Sequence[SourceVideo]
    num_too_short: int
    """Number of training videos with fewer frames, which are left out."""
    shard_cache: Path
    """Local folder for copies of shards, and for the index of a large data set."""

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
        pinned = device.type == "cuda"  # JPEGs are decoded on the host
        return open_loader(config, self, rank=rank, world_size=world_size, threads=threads, pinned=pinned)

    def shortfall(self, num_shots: int) -> str:
        """Return a one-line warning if K exceeds the shots that every clip of the data set has, else ""."""
        most = self.dataset.manifest.episode_k_max
        if num_shots <= most:
            return ""
        total = len(self.videos) + self.num_too_short
        return (
            f"K = {num_shots} is more than the {most} shots that every clip of {self.dataset.root} holds: "
            f"{self.num_too_short} of {total} training videos have fewer than {num_shots + 1} frames and are left out"
        )


def open_source(root: str, config: TrainConfig, shard_cache: str | None = None) -> Source:
    """Return the synthetic people of `config.online`, else the data set at `root`.

    Raises:
        ValueError, OSError: see `open_dataset` and `online.OnlineSource`.
        ModuleNotFoundError: a package for synthetic people is not installed.
    """
    if config.online is not None:
        return OnlineSource(config)
    return open_dataset(root, config, shard_cache)


def open_dataset(root: str, config: TrainConfig, shard_cache: str | None = None) -> DatasetSource:
    """Open a data set and select the training videos that are long enough.

    Args:
        root: path or URL of the shards.
        shard_cache: local folder for copies of shards, for the read order `shards`, and for the index of a large data
            set; default: in the cache folder.

    Raises:
        ValueError: there is no data set at `root`, its landmark detector or crop rule differs from the model's, or no
            video is long enough.
    """
    dataset = ShardDataset(root)
    check_fits(dataset, config.model)
    folder = assets.cache_folder() / "shards" if shard_cache is None else Path(shard_cache)
    videos = open_videos(dataset, "train", folder / "index")
    usable: Sequence[SourceVideo]
    if isinstance(videos, MappedVideos):
        usable = videos.with_frames(config.num_shots + 1)
    else:
        usable = tuple(video for video in videos if len(video.frames) > config.num_shots)
    if not usable:
        raise ValueError(
            f"none of the {len(videos)} training videos of {root} has K + 1 = {config.num_shots + 1} frames"
        )
    return DatasetSource(dataset, usable, len(videos) - len(usable), folder)


def check_fits(dataset: ShardDataset, model: ModelConfig) -> None:
    """Raise ValueError if a data set's landmark detector or crop rule differs from the model's."""
    manifest = dataset.manifest
    for name, theirs, ours in (
        ("landmark detector", manifest.detector, model.detector),
        ("crop rule", manifest.crop_rule, model.crop),
    ):
        if theirs != ours:
            raise ValueError(f"{dataset.root} was made with {name} {theirs}, the model wants {ours}")


@contextlib.contextmanager
def open_loader(
    config: TrainConfig,
    data: DatasetSource,
    *,
    rank: int = 0,
    world_size: int = 1,
    threads: int = 1,
    pinned: bool = False,
) -> Iterator[EpisodeLoader]:
    """Open a worker's loader for the duration of the block."""
    order, cache = VideoOrder(len(data.videos), config.seed), None
    if config.read_order == "shards":
        order = WindowOrder([video.url for video in data.videos], config.window_shards, config.seed)
        if not storage.is_local(data.dataset.root):
            cache = ShardCache(data.shard_cache, data.dataset.shards("train"))
    videos = data.videos
    if isinstance(videos, MappedVideos):
        counts: list[int] = videos.num_frames.tolist()
    else:
        counts = [len(video.frames) for video in videos]
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
            pinned=pinned,
        )
    finally:
        if cache is not None:
            cache.close()
