"""Temporal smoothing of landmark tracks, and interpolation of gaps."""

import numpy as np
from jaxtyping import Bool, Float


def one_euro(
    values: Float[np.ndarray, "frames points 2"], fps: float, strength: float, face_width: float | None = None
) -> Float[np.ndarray, "frames points 2"]:
    """One-Euro filter (Casiez et al., CHI 2012): smooths a still face but preserves fast motion such as blinks.

    The cut-off is `min_cutoff + beta * speed`, with speed in face widths per second, independent of resolution.

    Args:
        strength: in [0, 1]; 0 returns `values` unchanged.
        face_width: in the points' unit; default: the median extent of the points.
    """
    if strength == 0 or len(values) < 2:
        return values
    min_cutoff, beta = 6.0 * (1 - strength) + 0.6, 12.0 * (1 - strength) + 3.0
    face_width = face_width or float(np.median(np.ptp(values[..., 0], axis=1)))
    smooth = np.empty_like(values)
    smooth[0], speed = values[0], np.zeros((values.shape[1], 1))
    speed_share = _share(1.0, fps)
    for frame in range(1, len(values)):
        raw = np.linalg.norm(values[frame] - values[frame - 1], axis=-1, keepdims=True) * fps / face_width
        speed += speed_share * (raw - speed)
        # Use the raw speed if it is higher than its average, which is too slow for a blink of four frames.
        share = _share(min_cutoff + beta * np.maximum(speed, raw), fps)
        smooth[frame] = smooth[frame - 1] + share * (values[frame] - smooth[frame - 1])
    return smooth


def fill_gaps(
    points: Float[np.ndarray, "frames points 2"], found: Bool[np.ndarray, "frames"]
) -> Float[np.ndarray, "frames points 2"]:
    """Interpolate linearly over frames without a face; extend the first and last known face to the ends.

    Raises:
        ValueError: the face was found in no frame.
    """
    if not found.any():
        raise ValueError("no face found in any frame")
    if found.all():
        return points
    known = np.flatnonzero(found)
    flat = points.reshape(len(points), -1)
    frames = np.arange(len(points))
    filled = np.stack([np.interp(frames, known, column[known]) for column in flat.T], axis=-1)
    return filled.reshape(points.shape).astype(np.float32)


def _share(cutoff: float | Float[np.ndarray, "points 1"], fps: float) -> Float[np.ndarray, "..."]:
    """Return the smoothing factor of a first-order low-pass filter with this cut-off (Hz)."""
    rate = 2 * np.pi * np.asarray(cutoff) / fps
    return np.asarray(rate / (rate + 1))
