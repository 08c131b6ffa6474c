"""Motion metrics: detected landmarks of generated faces against the target landmarks.

Frames in which no face was detected are left out here; the report counts them.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64

from pipelines.faces.head_pose import fit_pose

_MIN_VARIATION = 1e-6  # below it a signal counts as constant


def eye_distance(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch"]:
    """Return the distance between the outer corners of the eyes, pixels."""
    return np.asarray(np.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1))


def landmark_error(
    found: Float[np.ndarray, "batch 68 2"], wanted: Float[np.ndarray, "batch 68 2"]
) -> Float64[np.ndarray, "batch"]:
    """Return the mean distance of the 68 points in percent of the target's eye distance (as in 300-W).

    Lower is better."""
    distance = np.linalg.norm(found.astype(np.float64) - wanted, axis=-1).mean(axis=-1)
    return np.asarray(100 * distance / eye_distance(wanted.astype(np.float64)))


def head_motion(found: Float[np.ndarray, "frames 68 2"], wanted: Float[np.ndarray, "frames 68 2"]) -> dict[str, float]:
    """Return the extent of head rotation relative to the target's: 1 is best, 0: no motion, above 1: exaggerated.

    `yaw`, `pitch` and `roll` are ratios of standard deviations over the frames; `all` is the ratio of the roots of the
    summed variances, which is stable if one angle is nearly constant. NaN where the target does not rotate.
    """
    angles = [np.stack([pose.yaw, pose.pitch, pose.roll]) for pose in map(fit_pose, (found, wanted))]
    ours, true = (values.var(axis=1) for values in angles)
    ratios = {name: _ratio(ours[i], true[i]) for i, name in enumerate(("yaw", "pitch", "roll"))}
    return ratios | {"all": _ratio(ours.sum(), true.sum())}


def _ratio(ours: np.floating, true: np.floating) -> float:
    return float(np.sqrt(ours / true)) if true > _MIN_VARIATION else float("nan")


def jitter(landmarks: Float[np.ndarray, "frames 68 2"], found: Bool[np.ndarray, "frames"]) -> float:
    """Return the mean length of the landmarks' second difference, in percent of the eye distance; lower is better.

    Smooth motion has little jitter, a still face none. NaN without three consecutive frames with a face.
    """
    in_a_row = found[:-2] & found[1:-1] & found[2:]
    if not in_a_row.any():
        return float("nan")
    points = landmarks.astype(np.float64)
    second = (points[2:] - 2 * points[1:-1] + points[:-2])[in_a_row]
    length = np.linalg.norm(second, axis=-1).mean(axis=-1)
    return float((100 * length / eye_distance(points[1:-1][in_a_row])).mean())


def correlation(ours: Float[np.ndarray, "frames"], driver: Float[np.ndarray, "frames"]) -> float:
    """Return Pearson's correlation in [-1, 1]; NaN with fewer than three frames or a constant signal."""
    if len(ours) < 3 or min(float(ours.std()), float(driver.std())) < _MIN_VARIATION:
        return float("nan")
    return float(np.corrcoef(ours, driver)[0, 1])
