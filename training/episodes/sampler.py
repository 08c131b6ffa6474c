"""Sample episodes: videos and frames as a pure function of seed and step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.episodes.epoch_order import VideoOrder


@dataclass(frozen=True)
class Episode:
    """Frames of one video, by position in it; the target is never among the shots."""

    video: int
    shots: tuple[int, ...]
    target: int
    num_warp_candidates: int
    """The warp's source is chosen among this many of the shots, so that training covers T = 1 to T = K."""
    number: int = 0
    """Number of the episode in the run, which determines its augmentation."""


class EpisodeSampler:
    """Samples the episodes of a step, independent of the number of workers.

    An epoch visits every video once, in an order drawn per epoch; default: one shuffle of all videos.
    """

    def __init__(
        self,
        num_frames: Sequence[int],
        num_shots: int,
        episodes_per_step: int,
        seed: int,
        order: VideoOrder | None = None,
    ) -> None:
        if not num_frames or min(num_frames) < num_shots + 1:
            raise ValueError(f"every video needs at least K + 1 = {num_shots + 1} frames, got {sorted(num_frames)[:1]}")
        self.num_frames = tuple(num_frames)
        self.num_shots, self.episodes_per_step, self.seed = num_shots, episodes_per_step, seed
        self.order = order or VideoOrder(len(self.num_frames), seed)

    def episodes(self, step: int) -> list[Episode]:
        """Return all workers' episodes of a step."""
        first = step * self.episodes_per_step
        return [self._episode(number) for number in range(first, first + self.episodes_per_step)]

    def _episode(self, number: int) -> Episode:
        video = self.order.video(number)
        random = np.random.default_rng((self.seed, 1, number))
        frames = random.choice(self.num_frames[video], self.num_shots + 1, replace=False)
        shots = tuple(int(frame) for frame in frames[1:])
        return Episode(video, shots, int(frames[0]), int(random.integers(1, self.num_shots + 1)), number)


def share(num_episodes: int, rank: int, world_size: int) -> slice:
    """Return which of a step's episodes a worker takes; shares differ by at most one episode.

    Raises:
        ValueError: there are more workers than episodes.
    """
    if world_size > num_episodes:
        raise ValueError(f"{num_episodes} episodes per step are too few for {world_size} workers")
    return slice(num_episodes * rank // world_size, num_episodes * (rank + 1) // world_size)
