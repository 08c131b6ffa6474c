"""Load episodes (K shots and a target of one video): read frames by byte ranges and decode them ahead of the step."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pipelines.dataset.reader import ShardDataset, SourceVideo
from pipelines.dataset.shard_cache import ShardCache
from pipelines.faces.person_matte import PersonSegmenter
from training.episodes.buffer_pool import BufferPool
from training.episodes.epoch_order import WindowOrder
from training.episodes.sampler import Episode, EpisodeSampler, share
from training.images import resize_points, resize_square
from training.warp.source_choice import nearest_frames


@dataclass(frozen=True)
class DecodedEpisodes:
    """The frames of a batch of episodes. Index 0 along `frames` is the target, the others are the shots."""

    video_ids: tuple[str, ...]
    images: UInt8[np.ndarray, "batch frames size size 3"] | UInt8[Tensor, "batch frames size size 3"]
    """On the host, or on the device that rendered them."""
    landmarks: Float[np.ndarray, "batch frames 68 2"]
    """In pixels of `images`."""
    warp_sources: Int[np.ndarray, "batch"]
    """Position along `frames` of the shot to warp; see `warp_sources`."""
    mattes: UInt8[np.ndarray, "batch size size"] | None
    """Of the shots to warp; None without a warp prior."""
    numbers: tuple[int, ...]
    """Number of each episode in the run."""


class EpisodeLoader:
    """Decodes a worker's share of each step in background threads, a few steps ahead.

    With a `cache` and a sampler of WindowOrder, the shards of the present and the next window are downloaded whole.
    With a `segmenter`, the shots to warp have mattes. `pinned` images are in memory that a CUDA device copies from.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        videos: Sequence[SourceVideo],
        sampler: EpisodeSampler,
        frame_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
        cache: ShardCache | None = None,
        segmenter: PersonSegmenter | None = None,
        pinned: bool = False,
    ) -> None:
        self.dataset, self.videos, self.sampler = dataset, videos, sampler
        self.frame_size, self.share = frame_size, share(sampler.episodes_per_step, rank, world_size)
        self.threads, self.cache, self.segmenter, self.pinned = threads, cache, segmenter, pinned
        self._flags = _decode_flags(dataset.manifest.size, frame_size)
        self._buffers = BufferPool()

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """Yield the batches of steps `first` to `last` - 1, decoded ahead."""
        yield from read_ahead(self.load, range(first, last), self.threads, self._fetch_shards)

    def load(self, step: int) -> DecodedEpisodes:
        """Return this worker's share of one step."""
        return self.decode(self.sampler.episodes(step)[self.share])

    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """Read and decode the frames of the given episodes."""
        frames = [[self.videos[e.video].frames[frame] for frame in (e.target, *e.shots)] for e in episodes]
        at = None if self.cache is None else self.cache.path
        read = self.dataset.read([frame for row in frames for frame in row], at=at)
        images = self._buffers.take(len(read), self.frame_size, self.frame_size, 3)
        for image, (jpeg, _) in zip(images, read, strict=True):
            image[:] = _decode_jpeg(jpeg, self.frame_size, self._flags)
        scale = self.frame_size / self.dataset.manifest.size
        shape = (len(episodes), self.sampler.num_shots + 1)
        landmarks = resize_points(np.stack([points for _, points in read]), scale).reshape(*shape, 68, 2)
        images = images.reshape(*shape, *images.shape[1:])
        sources = warp_sources(episodes, landmarks, self.frame_size)
        return DecodedEpisodes(
            video_ids=tuple(self.videos[episode.video].video_id for episode in episodes),
            # In this background thread: the training step then copies them to the device without waiting.
            images=torch.from_numpy(images).pin_memory() if self.pinned else images,
            landmarks=landmarks,
            warp_sources=sources,
            mattes=source_mattes(self.segmenter, images, landmarks, sources),
            numbers=tuple(episode.number for episode in episodes),
        )

    def _fetch_shards(self, oldest: int, newest: int) -> None:
        """Request the shards of the steps in progress, and of the window after that of the oldest step."""
        order = self.sampler.order
        if self.cache is None or not isinstance(order, WindowOrder):
            return
        first = order.window(oldest * self.sampler.episodes_per_step)
        last = order.window((newest + 1) * self.sampler.episodes_per_step - 1)
        windows = range(first, max(last, first + 1) + 1)
        self.cache.request([*dict.fromkeys(shard for window in windows for shard in order.shards(window))])


def read_ahead(
    load: Callable[[int], DecodedEpisodes],
    steps: range,
    threads: int,
    on_submit: Callable[[int, int], None] | None = None,
) -> Iterator[DecodedEpisodes]:
    """Yield `load(step)` for each step in order, loading `threads` + 1 steps ahead in background threads.

    Args:
        on_submit: called with the oldest and the newest step in progress, before each step is submitted.
    """
    ahead: deque[Future[DecodedEpisodes]] = deque()
    with ThreadPoolExecutor(threads, "episodes") as pool:
        for step in steps:
            if on_submit is not None:
                on_submit(step - len(ahead), step)
            ahead.append(pool.submit(load, step))
            if len(ahead) > threads + 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def warp_sources(
    episodes: Sequence[Episode], landmarks: Float[np.ndarray, "batch frames 68 2"], size: int
) -> Int[np.ndarray, "batch"]:
    """Return for each episode the position along `frames` of the shot to warp, the nearest of its candidates."""
    candidates = (points[1 : 1 + e.num_warp_candidates] for e, points in zip(episodes, landmarks, strict=True))
    targets = landmarks[:, :1]
    nearest = [nearest_frames(*each, size)[0] for each in zip(candidates, targets, strict=True)]
    return 1 + np.array(nearest)


def source_mattes(
    segmenter: PersonSegmenter | None,
    images: UInt8[np.ndarray, "batch frames size size 3"] | UInt8[Tensor, "batch frames size size 3"],
    landmarks: Float[np.ndarray, "batch frames 68 2"],
    sources: Int[np.ndarray, "batch"],
) -> UInt8[np.ndarray, "batch size size"] | None:
    """Return the matte of each episode's shot to warp (see `warp_sources`); None without a segmenter."""
    if segmenter is None:
        return None
    rows = np.arange(len(sources))
    chosen = images[rows, sources]
    on_host = chosen.cpu().numpy() if isinstance(chosen, Tensor) else chosen
    return np.stack([segmenter.matte(*face) for face in zip(on_host, landmarks[rows, sources], strict=True)])


def _decode_flags(stored: int, size: int) -> int:
    """Return OpenCV's flags to decode images of `stored` pixels for `size`.

    JPEG can be decoded at a half, a quarter or an eighth of its size for less work.
    """
    halves = {
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    }
    # OpenCV has no constant for reduced RGB; its bits combine to one.
    reduced = next((flag for ratio, flag in halves.items() if stored % ratio == 0 and stored // ratio >= size), 0)
    return int(reduced | cv2.IMREAD_COLOR_RGB)


def _decode_jpeg(jpeg: bytes, size: int, flags: int) -> UInt8[np.ndarray, "size size 3"]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    if image is None:
        raise ValueError(f"a frame of {len(jpeg)} bytes is no JPEG")
    return resize_square(image, size)
