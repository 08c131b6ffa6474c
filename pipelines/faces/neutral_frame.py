"""Find the neutral one among frames, or pictures, of a person."""

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import eye_openness, fit_pose, mouth_openness

_RELAXED_OPENNESS = 0.75  # minimum openness of relaxed eyes, relative to the widest in the clip


def find_neutral_frame(landmarks: Float[np.ndarray, "frames 68 2"]) -> int:
    """Return the index of the most frontal frame with a relaxed, shut mouth and relaxed, open eyes."""
    pose, eyes = fit_pose(landmarks), eye_openness(landmarks).mean(axis=-1)
    rotation = (np.abs(pose.yaw) + np.abs(pose.pitch - np.median(pose.pitch)) + np.abs(pose.roll)) / 15
    mouth = 3 * mouth_openness(landmarks)
    # A smile widens the mouth and may last most of the clip: a relaxed mouth is near the narrow end.
    width = np.linalg.norm(landmarks[:, 54] - landmarks[:, 48], axis=-1) / pose.scale
    smile = np.abs(width / np.quantile(width, 0.2) - 1) * 8
    # Eyes may be shut for most of the clip; the quantile is then too small.
    relaxed = max(np.quantile(eyes, 0.7), _RELAXED_OPENNESS * np.quantile(eyes, 0.99))
    return int((rotation + mouth + smile + 8 * np.abs(eyes - relaxed)).argmin())
