"""Smooth curves over time, the building blocks of motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def ease(progress: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return a raised cosine from 0 to 1 while `progress` goes from 0 to 1, constant outside."""
    return np.asarray((1 - np.cos(np.pi * np.clip(progress, 0, 1))) / 2)


def pulse(times: Float[np.ndarray, " frames"], start: float, rise: float, hold: float, fall: float) -> np.ndarray:
    """Return a pulse: from `start`, up to 1 in `rise` seconds, 1 for `hold` seconds, down to 0 in `fall` seconds."""
    return np.asarray(ease((times - start) / rise) - ease((times - start - rise - hold) / fall))


def ease_through(
    times: Float[np.ndarray, " frames"], knots: Sequence[float], values: Float[np.ndarray, "knots channels"]
) -> Float[np.ndarray, "frames channels"]:
    """Return a curve that rests at each knot and eases to the next; it is constant before the first and after the last.

    `knots` are ascending seconds.
    """
    at = np.asarray(knots, np.float64)
    if len(at) == 1:
        return np.repeat(values, len(times), axis=0)
    place = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    share = ease((times - at[place]) / (at[place + 1] - at[place]))[:, None]
    return np.asarray(values[place] * (1 - share) + values[place + 1] * share)


def smooth(values: Float[np.ndarray, "frames channels"], sigma: float) -> Float[np.ndarray, "frames channels"]:
    """Smooth over time with a Gaussian of `sigma` frames; the first and last frames are repeated beyond the ends."""
    if sigma <= 0:
        return values
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(channel, weights, mode="valid") for channel in padded.T], axis=-1)


def random_drift(
    rng: np.random.Generator, num_frames: int, channels: int, sigma: float
) -> Float[np.ndarray, "frames n"]:
    """Return smooth random motion with mean 0 and variance 1; `sigma` is its time scale in frames."""
    margin = round(3 * sigma)
    noise = rng.standard_normal((num_frames + 2 * margin, channels))
    slow = smooth(noise, sigma)[margin : margin + num_frames]
    # The variance of an average of independent numbers is the sum of its squared weights: 1 / (2 sigma sqrt(pi)).
    return np.asarray(slow * np.sqrt(2 * max(sigma, 0.3) * np.sqrt(np.pi)))


def soft_limit(
    values: Float[np.ndarray, "*shape"], limit: float | Float[np.ndarray, " channels"]
) -> Float[np.ndarray, "*shape"]:
    """Keep `values` up to 60 % of `limit` and compress them beyond with tanh, so that none exceeds the limit."""
    knee = 0.6 * limit
    beyond = np.maximum(np.abs(values) - knee, 0) / (limit - knee)
    return np.asarray(np.sign(values) * (np.minimum(np.abs(values), knee) + (limit - knee) * np.tanh(beyond)))


def limit_speed(values: Float[np.ndarray, "frames channels"], most: Float[np.ndarray, " channels"]) -> np.ndarray:
    """Limit the step from frame to frame to `most`; faster motion arrives late."""
    steps = np.diff(values, axis=0)
    if not (np.abs(steps) > most).any():
        return values
    slow = values.copy()
    for frame in range(1, len(slow)):
        slow[frame] = slow[frame - 1] + np.clip(values[frame] - slow[frame - 1], -most, most)
    return slow
