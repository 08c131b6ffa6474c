"""Episodes: K shots and a target of one video, drawn without state, read by byte ranges, decoded ahead of the step."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from pipelines.head import fit_pose
from pipelines.rasterize import rasterize_batch
from pipelines.shards import ShardDataset, SourceVideo
from training.config import ModelConfig
from training.models.warp import control_points, warp_shot
from training.pictures import resize_points, to_tensor
from training.row_table import RowTable
from training.step import Batch

_STEPS_AHEAD = 2


@dataclass(frozen=True)
class Episode:
    """Frames of one video by their position in it; the target is never among the shots."""

    video: int
    shots: tuple[int, ...]
    target: int
    num_warp_candidates: int
    """How many of the shots the warp may choose its source from: training must know T = 1 as well as T = K."""


class EpisodeSampler:
    """Which episodes a step holds: a pure function of seed and step, whoever asks and however many workers there are.

    Every video is visited once per epoch, in an order drawn per epoch.
    """

    def __init__(self, num_frames: Sequence[int], num_shots: int, episodes_per_step: int, seed: int) -> None:
        if not num_frames or min(num_frames) < num_shots + 1:
            raise ValueError(f"every video needs at least K + 1 = {num_shots + 1} frames, got {sorted(num_frames)[:1]}")
        self.num_frames = tuple(num_frames)
        self.num_shots, self.episodes_per_step, self.seed = num_shots, episodes_per_step, seed

    def episodes(self, step: int) -> list[Episode]:
        first = step * self.episodes_per_step
        return [self._episode(number) for number in range(first, first + self.episodes_per_step)]

    def _episode(self, number: int) -> Episode:
        epoch, position = divmod(number, len(self.num_frames))
        video = int(_epoch_order(self.seed, epoch, len(self.num_frames))[position])
        random = np.random.default_rng((self.seed, 1, number))
        frames = random.choice(self.num_frames[video], self.num_shots + 1, replace=False)
        shots = tuple(int(frame) for frame in frames[1:])
        return Episode(video, shots, int(frames[0]), int(random.integers(1, self.num_shots + 1)))


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_videos: int) -> Int[np.ndarray, "videos"]:
    return np.random.default_rng((seed, 0, epoch)).permutation(num_videos)


@dataclass(frozen=True)
class DecodedEpisodes:
    """A batch on the host. Index 0 along `frames` is the target, the rest are the shots."""

    video_ids: tuple[str, ...]
    images: UInt8[np.ndarray, "batch frames size size 3"]
    landmarks: Float[np.ndarray, "batch frames 68 2"]
    warp_sources: Int[np.ndarray, "batch"]
    """Position along `frames` of the shot to warp: the nearest in pose among the episode's candidates."""


class EpisodeLoader:
    """Decodes a worker's slice of each step in a background thread."""

    def __init__(
        self,
        dataset: ShardDataset,
        videos: Sequence[SourceVideo],
        sampler: EpisodeSampler,
        image_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if sampler.episodes_per_step % world_size:
            raise ValueError(f"{sampler.episodes_per_step} episodes per step do not divide among {world_size} workers")
        self.dataset, self.videos, self.sampler = dataset, videos, sampler
        self.image_size, self.rank, self.world_size = image_size, rank, world_size

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """The batches of steps `first` to `last` - 1, decoded ahead."""
        with ThreadPoolExecutor(1, "episodes") as pool:
            ahead: list[Future[DecodedEpisodes]] = []
            for step in range(first, last):
                ahead.append(pool.submit(self.load, step))
                if len(ahead) > _STEPS_AHEAD:
                    yield ahead.pop(0).result()
            for future in ahead:
                yield future.result()

    def load(self, step: int) -> DecodedEpisodes:
        """This worker's slice of one step."""
        share = self.sampler.episodes_per_step // self.world_size
        return self.decode(self.sampler.episodes(step)[self.rank * share : (self.rank + 1) * share])

    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """Read and decode the frames of some episodes."""
        wanted = [
            self.videos[episode.video].frames[frame]
            for episode in episodes
            for frame in (episode.target, *episode.shots)
        ]
        read = self.dataset.read(wanted)
        scale = self.image_size / self.dataset.manifest.size
        images = np.stack([_decode_jpeg(jpeg, self.image_size) for jpeg, _ in read])
        landmarks = resize_points(np.stack([points for _, points in read]), scale)
        per_episode = self.sampler.num_shots + 1
        images = images.reshape(len(episodes), per_episode, *images.shape[1:])
        landmarks = landmarks.reshape(len(episodes), per_episode, 68, 2)
        nearest = [
            1 + nearest_in_pose(points[1 : 1 + episode.num_warp_candidates], points[0])
            for episode, points in zip(episodes, landmarks, strict=True)
        ]
        video_ids = tuple(self.videos[episode.video].video_id for episode in episodes)
        return DecodedEpisodes(video_ids, images, landmarks, np.array(nearest))


def nearest_in_pose(candidates: Float[np.ndarray, "shots 68 2"], target: Float[np.ndarray, "68 2"]) -> int:
    """The candidate whose yaw, pitch and roll are nearest to the target's."""
    poses, wanted = fit_pose(candidates), fit_pose(target)
    differences = [poses.yaw - wanted.yaw, poses.pitch - wanted.pitch, poses.roll - wanted.roll]
    return int(np.square(differences).sum(axis=0).argmin())


def to_batch(decoded: DecodedEpisodes, table: RowTable, config: ModelConfig, device: torch.device) -> Batch:
    """Move a decoded batch to the device; draw landmark images and warp there."""
    size = config.image_size
    frames = to_tensor(decoded.images.reshape(-1, size, size, 3), device)
    landmarks = torch.from_numpy(decoded.landmarks.reshape(-1, 68, 2)).to(device)
    images = rasterize_batch(landmarks, size, config.raster)
    batch, per_episode = decoded.images.shape[:2]
    frames, images = frames.unflatten(0, (batch, per_episode)), images.unflatten(0, (batch, per_episode))
    warped = None
    if config.warp_prior:
        episode = torch.arange(batch, device=device)
        source = torch.from_numpy(decoded.warp_sources).to(device)
        points = torch.from_numpy(control_points(decoded.landmarks, size)).to(device)
        warped = warp_shot(frames[episode, source], images[episode, source], points[episode, source], points[:, 0])
    return Batch(table.indices(decoded.video_ids), frames[:, 1:], images[:, 1:], frames[:, 0], images[:, 0], warped)


def _decode_jpeg(jpeg: bytes, size: int) -> UInt8[np.ndarray, "size size 3"]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"a frame of {len(jpeg)} bytes is no JPEG")
    shrinks = image.shape[0] > size
    resized: np.ndarray = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized
