"""The order in which an epoch visits the videos: a pure function of seed and epoch."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int


class VideoOrder:
    """One shuffle of all videos; consecutive episodes may come from any shards."""

    def __init__(self, num_videos: int, seed: int) -> None:
        self.num_videos, self.seed = num_videos, seed
        self.epoch = lru_cache(maxsize=4)(self._epoch)

    def video(self, number: int) -> int:
        """Return the video of episode `number`, counted over epochs from 0."""
        epoch, position = divmod(number, self.num_videos)
        return int(self.epoch(epoch)[position])

    def _epoch(self, epoch: int) -> Int[np.ndarray, "videos"]:
        return np.random.default_rng((self.seed, 0, epoch)).permutation(self.num_videos)


class RepeatedOrder(VideoOrder):
    """One shuffle of all videos, in which `reuse` consecutive steps show the same videos."""

    def __init__(self, num_videos: int, seed: int, episodes_per_step: int, reuse: int) -> None:
        super().__init__(num_videos, seed)
        self.episodes_per_step, self.reuse = episodes_per_step, reuse

    def video(self, number: int) -> int:
        return super().video(self.first_showing(number))

    def first_showing(self, number: int) -> int:
        """Return the number of the first episode that shows the same, counted without repetitions."""
        step, place = divmod(number, self.episodes_per_step)
        return step // self.reuse * self.episodes_per_step + place


class WindowOrder(VideoOrder):
    """A shuffle of shards, and within each window of `window_shards` consecutive shards a shuffle of their videos.

    Reading episodes in order needs the shards of one or two windows at a time, each once per epoch.
    """

    def __init__(self, shard_of_video: Sequence[str], window_shards: int, seed: int) -> None:
        super().__init__(len(shard_of_video), seed)
        self.window_shards = window_shards
        # Numbered in the order of names, so that the location of the data set does not matter.
        names, self._shards = np.unique(np.array(shard_of_video, dtype=np.dtypes.StringDType()), return_inverse=True)
        self._names = [str(name) for name in names]
        self.num_windows = -(-len(self._names) // window_shards)
        self._ends = lru_cache(maxsize=4)(self._window_ends)

    def window(self, number: int) -> int:
        """Return the window of episode `number`; windows are counted over all epochs."""
        epoch, position = divmod(number, self.num_videos)
        return epoch * self.num_windows + int(np.searchsorted(self._ends(epoch), position, side="right"))

    def shards(self, window: int) -> tuple[str, ...]:
        """Return the shards of a window."""
        epoch, place = divmod(window, self.num_windows)
        order = self._shard_order(epoch)[place * self.window_shards : (place + 1) * self.window_shards]
        return tuple(self._names[shard] for shard in order)

    def _shard_order(self, epoch: int) -> Int[np.ndarray, "shards"]:
        return np.random.default_rng((self.seed, 2, epoch)).permutation(len(self._names))

    def _window_of_video(self, epoch: int) -> Int[np.ndarray, "videos"]:
        windows: np.ndarray = np.argsort(self._shard_order(epoch))[self._shards] // self.window_shards
        return windows

    def _window_ends(self, epoch: int) -> Int[np.ndarray, "windows"]:
        return np.cumsum(np.bincount(self._window_of_video(epoch), minlength=self.num_windows))

    def _epoch(self, epoch: int) -> Int[np.ndarray, "videos"]:
        shuffled = super()._epoch(epoch)
        return shuffled[np.argsort(self._window_of_video(epoch)[shuffled], kind="stable")]
