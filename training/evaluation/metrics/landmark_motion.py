"""How well a drawn face moves: its landmarks, as a detector finds them, against those it was to have.

A face that was not found has no landmarks: its row is left out here, and the report counts it.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64

from pipelines.faces.head_pose import fit_pose

_LEAST_SPREAD = 1e-6


def eye_distance(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch"]:
    """Between the outer corners of the eyes, pixels."""
    return np.asarray(np.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1))


def landmark_error(
    found: Float[np.ndarray, "batch 68 2"], wanted: Float[np.ndarray, "batch 68 2"]
) -> Float64[np.ndarray, "batch"]:
    """Mean distance of the 68 points in percent of the wanted face's eye distance (as 300-W); lower is better."""
    distance = np.linalg.norm(found.astype(np.float64) - wanted, axis=-1).mean(axis=-1)
    return np.asarray(100 * distance / eye_distance(wanted.astype(np.float64)))


def head_motion(found: Float[np.ndarray, "frames 68 2"], wanted: Float[np.ndarray, "frames 68 2"]) -> dict[str, float]:
    """How much the head turns, relative to how much it was to turn: 1 is best, 0 stands still, over 1 exaggerates.

    `yaw`, `pitch` and `roll` are ratios of standard deviations over the frames; `all` is the ratio of the roots of the
    summed variances, which a small angle cannot blow up. NaN where the wanted head does not turn.
    """
    angles = [np.stack([pose.yaw, pose.pitch, pose.roll]) for pose in map(fit_pose, (found, wanted))]
    ours, true = (values.var(axis=1) for values in angles)
    ratios = {name: _ratio(ours[i], true[i]) for i, name in enumerate(("yaw", "pitch", "roll"))}
    return ratios | {"all": _ratio(ours.sum(), true.sum())}


def _ratio(ours: np.floating, true: np.floating) -> float:
    return float(np.sqrt(ours / true)) if true > _LEAST_SPREAD else float("nan")


def jitter(landmarks: Float[np.ndarray, "frames 68 2"], found: Bool[np.ndarray, "frames"]) -> float:
    """Mean length of the landmarks' second difference over three frames in a row, in percent of the eye distance.

    Lower is calmer; a smooth motion has little, a still face none. NaN without three frames in a row with a face.
    """
    in_a_row = found[:-2] & found[1:-1] & found[2:]
    if not in_a_row.any():
        return float("nan")
    points = landmarks.astype(np.float64)
    second = (points[2:] - 2 * points[1:-1] + points[:-2])[in_a_row]
    length = np.linalg.norm(second, axis=-1).mean(axis=-1)
    return float((100 * length / eye_distance(points[1:-1][in_a_row])).mean())


def correlation(ours: Float[np.ndarray, "frames"], driver: Float[np.ndarray, "frames"]) -> float:
    """Pearson's, in [-1, 1]: 1 follows the driver. NaN with fewer than three frames or a constant."""
    if len(ours) < 3 or min(float(ours.std()), float(driver.std())) < _LEAST_SPREAD:
        return float("nan")
    return float(np.corrcoef(ours, driver)[0, 1])
