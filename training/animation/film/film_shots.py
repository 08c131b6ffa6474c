"""Choose frames of a film as an avatar's pictures: faces unlike each other in pose, mouth and eyes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import find_neutral_frame
from pipelines.media.video import decode
from training.animation.driver_track import DriverTrack
from training.animation.shots.choice import shot_distances
from training.avatars.portraits import Portrait

NUM_SHOTS = 8
_CANDIDATES = 200
_SIZE = 256  # pixels of a crop in which distances are told
_CROP = 2.0  # widths of a face in it


def film_portraits(film: Path, track: DriverTrack) -> list[Portrait]:
    """Return at most `NUM_SHOTS` frames of a film as portraits, the neutral one first.

    Args:
        track: of the film's person.

    Raises:
        ValueError: the film cannot be read.
    """
    chosen = choose_frames(track)
    frames = {frame.index: frame.image for frame in decode(film, frame_indices=chosen)}
    portraits = []
    for number in chosen:
        if number not in frames:
            raise ValueError(f"{film}: frame {number} cannot be decoded again")
        gaze = track.gaze[number] if np.isfinite(track.gaze[number]).all() else None
        image = frames[number]
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        portraits.append(Portrait(image, track.landmarks[number], f"{film.stem}-{number}", digest, gaze))
    return portraits


def choose_frames(track: DriverTrack) -> list[int]:
    """Return the numbers of the neutral frame and of others that have the face, each as unlike those before it as can
    be found among 200."""
    found = np.flatnonzero(track.found)
    numbers = found[np.unique(np.linspace(0, len(found) - 1, _CANDIDATES).round().astype(int))]
    landmarks = _in_crops(track.landmarks[numbers])
    distances = shot_distances(landmarks, landmarks, _SIZE)
    chosen = [find_neutral_frame(landmarks)]
    while len(chosen) < min(NUM_SHOTS, len(numbers)):
        nearest = distances[chosen].min(axis=0)
        if nearest.max() <= 0:
            break
        chosen.append(int(nearest.argmax()))
    return [int(numbers[index]) for index in chosen]


def _in_crops(landmarks: Float[np.ndarray, "frames 68 2"]) -> Float[np.ndarray, "frames 68 2"]:
    """Move each face to the middle of a crop of its own: where in the film it is does not tell faces apart."""
    middle = landmarks.mean(axis=1, keepdims=True)
    width = float(np.median(np.ptp(landmarks[..., 0], axis=1)))
    return np.asarray((landmarks - middle) * (_SIZE / (_CROP * max(width, 1e-6))) + _SIZE / 2, np.float32)
