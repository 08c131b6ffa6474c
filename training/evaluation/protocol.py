"""The choice of videos and frames: the protocol of arXiv 1905.08233, section 4, as pure functions of a seed.

50 videos of people that were not trained on; T shots and 32 other, hold-out frames of the same video.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from pipelines.dataset.reader import FrameRef, ShardDataset, SourceVideo
from pipelines.dataset.schema import SPLITS
from pipelines.media.images import decode_jpeg
from training.evaluation.metrics.faces import Faces

_FEWEST_HELD_OUT = 8

Item = TypeVar("Item")


@dataclass(frozen=True)
class ProtocolConfig:
    """Parameters of the protocol."""

    split: str = "test"
    num_videos: int = 50
    """Maximum number of videos, of as many identities as possible."""
    num_frames: int = 32
    """Maximum number of hold-out frames per video."""
    shots: tuple[int, ...] = (1, 8, 32)
    """T: numbers of frames of the person that methods get."""
    num_pairs: int = 0
    """Number of portraits driven by the frames of another person."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_videos", "num_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.num_pairs < 0:
            raise ValueError(f"num_pairs must not be negative, got {self.num_pairs}")
        if not self.shots or min(self.shots) < 1 or list(self.shots) != sorted(set(self.shots)):
            raise ValueError(f"shots must be rising numbers of at least 1, got {' '.join(map(str, self.shots))}")

    @property
    def splits(self) -> tuple[str, ...]:
        """The data set's splits to measure."""
        return SPLITS if self.split == "all" else (self.split,)

    @property
    def fewest_held_out(self) -> int:
        """Minimum number of hold-out frames; a video is skipped for a T that leaves fewer."""
        return min(self.num_frames, _FEWEST_HELD_OUT)


@dataclass(frozen=True)
class Selection:
    """Frames of one video, by position in it."""

    video: SourceVideo
    held_out: tuple[int, ...]
    """In temporal order; the same for every T."""
    shots: tuple[int, ...]
    """For the largest T; a smaller T uses the first of them."""


@dataclass(frozen=True)
class Pair:
    """A portrait of one person and a driver clip of another, in temporal order."""

    portrait: FrameRef
    portrait_video: SourceVideo
    driver: tuple[FrameRef, ...]
    driver_video: SourceVideo

    @property
    def name(self) -> str:
        return f"{self.portrait_video.video_id} < {self.driver_video.video_id}"


def choose_videos(videos: Sequence[SourceVideo], number: int, seed: int) -> list[SourceVideo]:
    """Choose at most `number` videos, interleaving identities, in an order that depends only on seed and ids."""
    return interleave(videos, lambda video: video.identity, lambda video: video.video_id, seed)[:number]


def interleave(
    items: Sequence[Item], owner: Callable[[Item], str], name: Callable[[Item], str], seed: int
) -> list[Item]:
    """Order items so that owners alternate (round robin), depending only on seed and names."""
    num_of_owner: Counter[str] = Counter()
    ranked: list[tuple[int, int, Item]] = []
    for item in sorted(items, key=lambda item: draw_number(seed, name(item))):
        ranked.append((num_of_owner[owner(item)], len(ranked), item))
        num_of_owner[owner(item)] += 1
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]


def choose_frames(video: SourceVideo, config: ProtocolConfig) -> Selection | None:
    """Choose shots and hold-out frames of a video by seed and video id; None if it has too few for the smallest T.

    The largest T that leaves enough hold-out frames determines the shots; up to `num_frames` others are held out.
    """
    total = len(video.frames)
    possible = [shots for shots in config.shots if total - shots >= config.fewest_held_out]
    if not possible:
        return None
    most = possible[-1]
    order = np.random.default_rng(draw_number(config.seed, video.video_id)).permutation(total).tolist()
    return Selection(
        video,
        held_out=tuple(sorted(order[most : most + config.num_frames])),
        shots=tuple(order[:most]),
    )


def choose_pairs(videos: Sequence[SourceVideo], config: ProtocolConfig) -> list[Pair]:
    """Choose up to `num_pairs` pairs: each video's first shot, driven by the longest clip of the next other person."""
    pairs: list[Pair] = []
    for place, video in enumerate(videos):
        others = [*videos[place + 1 :], *videos[:place]]
        driver = next((other for other in others if other.identity != video.identity), None)
        if driver is None or len(pairs) == config.num_pairs:
            break
        first = np.random.default_rng(draw_number(config.seed, video.video_id)).permutation(len(video.frames))[0]
        pairs.append(Pair(video.frames[int(first)], video, _longest_clip(driver, config.num_frames), driver))
    return pairs


def _longest_clip(video: SourceVideo, num_frames: int) -> tuple[FrameRef, ...]:
    """Return the first frames of the clip with the most frames, in temporal order."""
    clip, _ = Counter(frame.clip for frame in video.frames).most_common(1)[0]
    frames = sorted((frame for frame in video.frames if frame.clip == clip), key=lambda frame: frame.frame_index)
    return tuple(frames[:num_frames])


def read_faces(dataset: ShardDataset, frames: Sequence[FrameRef], size: int | None = None) -> Faces:
    """Read frames, resized to `size` pixels if given.

    Raises:
        ValueError, OSError: a frame is damaged or missing.
    """
    read = dataset.read(frames)
    images = np.stack([decode_jpeg(jpeg) for jpeg, _ in read])
    landmarks = np.stack([points for _, points in read])
    return Faces(images, landmarks).resized(size or images.shape[1])


def part_name(name: str) -> str:
    """Return a safe file name for the name of a video."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def digest(config: ProtocolConfig, *facts: object) -> str:
    """Return 16 hex digits that identify what a result depends on."""
    return hashlib.sha256(repr((sorted(asdict(config).items()), facts)).encode()).hexdigest()[:16]


def draw_number(seed: int, name: str) -> int:
    """Return a pseudorandom number for a name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
