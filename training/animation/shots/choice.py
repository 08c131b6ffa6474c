"""Choose for every frame the shot to start from: the nearest one, without switching back and forth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from pipelines.faces.head_pose import eye_openness, mouth_openness
from training.images import smooth_step
from training.warp.source_choice import warp_distances

_MOUTH_WEIGHT, _EYE_WEIGHT = 30.0, 20.0  # degrees for a difference of 1 in openness
_SWITCH_COST = 8.0  # degrees of `shot_distances`, summed over frames, that a switch must save
_FRAMES_AT_ONCE = 1000
_FADE_SECONDS = 0.16  # length of a cross-fade


@dataclass(frozen=True, eq=False)
class ShotShares:
    """What each shot has a share in: rows sum to 1, with at most two shots in a cross-fade."""

    head: Float[np.ndarray, "frames shots"]
    openings: Mapping[str, Float[np.ndarray, "frames shots"]] = field(default_factory=dict)
    """Of mouth ("lips") and eyes ("eyes"), which may come from other shots; one that is missing is the head's."""

    def __len__(self) -> int:
        return len(self.head)

    def __getitem__(self, frames: slice | list[int] | Int[np.ndarray, " chosen"]) -> ShotShares:
        return ShotShares(self.head[frames], {part: shares[frames] for part, shares in self.openings.items()})

    @property
    def used(self) -> Bool[np.ndarray, "frames shots"]:
        """Which shots are needed to draw each frame."""
        used: np.ndarray = np.any([self.head > 0, *(shares > 0 for shares in self.openings.values())], axis=0)
        return used

    def named(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Return the share of the frames that each shot, by name, has in the head; and in each of the openings."""
        heads, *parts = (
            {name: round(float(share), 4) for name, share in zip(names, shares.mean(axis=0), strict=True) if share > 0}
            for shares in (self.head, *self.openings.values())
        )
        return heads, dict(zip(self.openings, parts, strict=True))


def shot_distances(
    shots: Float[np.ndarray, "shots 68 2"], targets: Float[np.ndarray, "frames 68 2"], size: int
) -> Float64[np.ndarray, "frames shots"]:
    """Return how badly each shot suits each frame: `warp_distances`, plus differences in openness of mouth and eyes.

    An open mouth then starts from a shot that shows the teeth, an open eye from one that shows the iris.

    Args:
        shots, targets: landmarks in pixels of one crop.
        size: side of the crop, pixels.
    """
    if len(targets) > _FRAMES_AT_ONCE:  # differences of all landmarks take kilobytes a frame
        firsts = range(0, len(targets), _FRAMES_AT_ONCE)
        return np.concatenate([shot_distances(shots, targets[i : i + _FRAMES_AT_ONCE], size) for i in firsts])
    mouths = np.abs(mouth_openness(targets)[:, None] - mouth_openness(shots))
    eyes = np.abs(eye_openness(targets).mean(axis=-1)[:, None] - eye_openness(shots).mean(axis=-1))
    distances: np.ndarray = warp_distances(shots, targets, size) + _MOUTH_WEIGHT * mouths + _EYE_WEIGHT * eyes
    return distances


def choose_shots(
    distances: Float64[np.ndarray, "frames shots"], fps: float | None
) -> Float[np.ndarray, "frames shots"]:
    """Return the share of each shot in each frame; rows sum to 1, with at most two shots in a cross-fade.

    The sequence of shots minimises the sum of distances and of a cost per switch (Viterbi), then switches become
    cross-fades.

    Args:
        fps: frame rate; None if the frames do not follow each other: each then takes its nearest shot.
    """
    if fps is None:
        shares: np.ndarray = np.eye(distances.shape[1], dtype=np.float32)[distances.argmin(axis=1)]
        return shares
    return _cross_fade(_cheapest_path(distances, _SWITCH_COST), distances.shape[1], round(_FADE_SECONDS * fps / 2))


def _cheapest_path(distances: Float64[np.ndarray, "frames shots"], switch_cost: float) -> Int[np.ndarray, frames]:
    cost = distances[0].copy()
    came_from = np.empty(distances.shape, np.intp)
    stay = np.arange(distances.shape[1])
    for frame in range(1, len(distances)):
        best = int(cost.argmin())
        switches = cost[best] + switch_cost < cost
        came_from[frame] = np.where(switches, best, stay)
        cost = np.where(switches, cost[best] + switch_cost, cost) + distances[frame]
    path = np.empty(len(distances), np.intp)
    path[-1] = cost.argmin()
    for frame in range(len(distances) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _cross_fade(path: Int[np.ndarray, frames], num_shots: int, half: int) -> Float[np.ndarray, "frames shots"]:
    """Turn each switch into a fade over `half` frames on either side, less where the next switch is nearer."""
    shares: np.ndarray = np.eye(num_shots, dtype=np.float32)[path]
    switches = np.flatnonzero(np.diff(path)) + 1  # first frames of the new shots
    bounds = [0, *switches.tolist(), len(path)]
    for before, switch, after in zip(bounds, bounds[1:], bounds[2:], strict=False):
        reach = min(half, (switch - before) // 2, (after - switch) // 2)
        frames = np.arange(switch - reach, switch + reach)
        ramp = (frames - frames[0] + 1) / (len(frames) + 1) if reach else np.zeros(0)
        new = smooth_step(ramp).astype(np.float32)
        old_shot, new_shot = path[switch - 1], path[switch]
        shares[frames] = 0
        shares[frames, old_shot], shares[frames, new_shot] = 1 - new, new
    return shares
