"""Which videos and frames are measured: the protocol of arXiv 1905.08233, section 4, as pure functions of a seed.

50 videos of people never trained on; T shots and 32 hold-out frames of the same video, none of them in both.
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
    """What is measured."""

    split: str = "test"
    num_videos: int = 50
    """Videos at most, of as many identities as there are."""
    num_frames: int = 32
    """Hold-out frames of a video at most."""
    shots: tuple[int, ...] = (1, 8, 32)
    """T: how many frames of the person a method is given."""
    num_pairs: int = 0
    """Portraits driven by the frames of somebody else."""
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
        """Those of the data set that are measured."""
        return SPLITS if self.split == "all" else (self.split,)

    @property
    def fewest_held_out(self) -> int:
        """A T that leaves fewer hold-out frames in a video is not measured there."""
        return min(self.num_frames, _FEWEST_HELD_OUT)


@dataclass(frozen=True)
class Selection:
    """Frames of one video by their position in it."""

    video: SourceVideo
    held_out: tuple[int, ...]
    """In the order of time; the same for every T."""
    shots: tuple[int, ...]
    """For the largest T; a smaller one takes the first of them."""


@dataclass(frozen=True)
class Pair:
    """A portrait of one person and a driver clip of another, in the order of time."""

    portrait: FrameRef
    portrait_video: SourceVideo
    driver: tuple[FrameRef, ...]
    driver_video: SourceVideo

    @property
    def name(self) -> str:
        return f"{self.portrait_video.video_id} < {self.driver_video.video_id}"


def choose_videos(videos: Sequence[SourceVideo], number: int, seed: int) -> list[SourceVideo]:
    """`number` of them at most: one of each identity in turn, in an order that depends on seed and ids alone."""
    return interleave(videos, lambda video: video.identity, lambda video: video.video_id, seed)[:number]


def interleave(
    items: Sequence[Item], owner: Callable[[Item], str], name: Callable[[Item], str], seed: int
) -> list[Item]:
    """All of them: one of each owner in turn, in an order that depends on seed and names alone."""
    turn: Counter[str] = Counter()
    turns: list[tuple[int, int, Item]] = []
    for item in sorted(items, key=lambda item: draw_number(seed, name(item))):
        turns.append((turn[owner(item)], len(turns), item))
        turn[owner(item)] += 1
    return [item for _, _, item in sorted(turns, key=lambda place: place[:2])]


def choose_frames(video: SourceVideo, config: ProtocolConfig) -> Selection | None:
    """The frames of one video: a pure function of seed and video id. None where it has too few for the smallest T.

    The largest T that leaves enough hold-out frames takes its shots, the rest are held out, up to the number asked for.
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
    """Up to `num_pairs` of them; each video's first shot, driven by the longest clip of the next other person."""
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
    """The first frames of the clip that has most, in the order of time."""
    clip, _ = Counter(frame.clip for frame in video.frames).most_common(1)[0]
    frames = sorted((frame for frame in video.frames if frame.clip == clip), key=lambda frame: frame.frame_index)
    return tuple(frames[:num_frames])


def read_faces(dataset: ShardDataset, frames: Sequence[FrameRef], size: int | None = None) -> Faces:
    """Frames at the size that a network sees, or as they are stored.

    Raises:
        ValueError, OSError: a frame is damaged or gone.
    """
    read = dataset.read(frames)
    images = np.stack([decode_jpeg(jpeg) for jpeg, _ in read])
    landmarks = np.stack([points for _, points in read])
    return Faces(images, landmarks).resized(size or images.shape[1])


def part_name(name: str) -> str:
    """A file's name for a video's: names of videos never become paths."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def digest(config: ProtocolConfig, *facts: object) -> str:
    """What a result depends on, as 16 letters."""
    return hashlib.sha256(repr((sorted(asdict(config).items()), facts)).encode()).hexdigest()[:16]


def draw_number(seed: int, name: str) -> int:
    """A number for a name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
