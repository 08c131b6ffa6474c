"""Actions and angles of a face over time, and the driver's track that they stand for.

The track shows the canonical head (`pipelines.faces.head_pose`), whose pose its landmarks give back exactly, with the
actions of the mean landmark head, each part at the canonical head's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float64

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, EYE_CORNERS, LEFT_EYE, RIGHT_EYE, Pose, gaze
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import GAZE_DEGREES, action_index
from pipelines.synthetic.head.landmark_head import load_landmark_head
from training.animation.driver_track import DriverTrack, Rest
from training.animation.retarget import part_scales

_PIXELS_PER_CM = 40.0
_CENTRE = 512.0  # pixels
EYEBALL = 1.2  # radius in centimetres
_FRAMES_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class FaceMotion:
    """Expression and pose of a face in each frame, relative to its rest."""

    actions: Float[np.ndarray, "frames 52"]
    """Weights of `arkit_actions.ACTIONS`; 0 is the rest."""
    angles: Float[np.ndarray, "frames 3"]
    """Yaw, pitch and roll in degrees, signs as in `pipelines.faces.head_pose.Pose`; 0 is the rest."""
    travel: Float[np.ndarray, "frames 2"] | None = None
    """Movement of the head in the picture, centimetres to the right and down; None: it stays."""
    zoom: Float[np.ndarray, " frames"] | None = None
    """Size of the head in the picture, relative to the rest; None: it stays."""

    def __len__(self) -> int:
        return len(self.actions)


def to_track(motion: FaceMotion, times: FrameTimes, detector: str, *, exact: bool, adds: bool = False) -> DriverTrack:
    """Return the track of the canonical head with this motion; its rest is known.

    Args:
        detector: name of the detector that the avatar's model was trained on; the head suits every one.
        exact: whether the motion has no noise, and is not to be smoothed.
        adds: whether its expression is added to the portrait's.
    """
    landmarks = np.empty((len(motion), 68, 2), np.float32)
    looks = np.empty((len(motion), 2, 2), np.float32)
    for first in range(0, len(motion), _FRAMES_AT_ONCE):  # the heads of an hour's frames would take gigabytes
        part = slice(first, first + _FRAMES_AT_ONCE)
        pose, actions = _pose(motion, part), np.asarray(motion.actions[part], np.float64)
        landmarks[part] = pose.project(CANONICAL_LANDMARKS + np.tensordot(actions, canonical_actions(), 1))
        # The corners of the eyes at rest: an action that lifts a corner does not turn the eye.
        corners = pose.project(np.broadcast_to(CANONICAL_LANDMARKS, (len(actions), 68, 3)))
        looks[part] = gaze(corners, pose.project(_irises(actions)))
    return DriverTrack(landmarks, looks, np.ones(len(motion), bool), times, detector, canonical_rest(), exact, adds)


def canonical_rest() -> Rest:
    """Return the rest of every track of the canonical head."""
    straight = np.zeros(1)
    still = Pose.from_angles(straight, straight, straight, np.full(1, _PIXELS_PER_CM), np.full((1, 2), _CENTRE))
    landmarks = still.project(CANONICAL_LANDMARKS[None])[0]
    return Rest(landmarks.astype(np.float32), np.array([[0.5, 0.0]] * 2, np.float32))


@cache
def canonical_actions() -> Float64[np.ndarray, "52 68 3"]:
    """Return the displacement of the canonical head's points by each action at 1, centimetres."""
    head = load_landmark_head()
    scaled: np.ndarray = head.actions * part_scales(CANONICAL_LANDMARKS, head.points)
    return scaled


def look_angles(actions: Float[np.ndarray, "frames 52"]) -> Float[np.ndarray, "frames 2 2"]:
    """Return how far each eye (the one at the picture's left first) turns to the picture's right and up, radians."""

    def of(name: str, side: str) -> Float[np.ndarray, " frames"]:
        turned: np.ndarray = actions[:, action_index(f"eyeLook{name}{side}")] * GAZE_DEGREES[name]
        return turned

    eyes = []
    for side, outwards in (("Right", -1), ("Left", 1)):  # the person's right eye is at the picture's left
        across = outwards * (of("Out", side) - of("In", side))
        eyes.append(np.stack([across, of("Up", side) - of("Down", side)], axis=-1))
    return np.asarray(np.radians(np.stack(eyes, axis=1)))


def _irises(actions: Float[np.ndarray, "frames 52"]) -> Float[np.ndarray, "frames 2 3"]:
    """Return the centres of both irises on the canonical head, centimetres: at rest in the middle of the eye."""
    yaw, pitch = np.moveaxis(look_angles(actions), -1, 0)
    middle = np.stack([(CANONICAL_LANDMARKS[first] + CANONICAL_LANDMARKS[last]) / 2 for first, last in EYE_CORNERS])
    middle[:, 2] = [CANONICAL_LANDMARKS[eye, 2].mean() for eye in (RIGHT_EYE, LEFT_EYE)]
    moved = np.stack([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), 1 - np.cos(yaw) * np.cos(pitch)], axis=-1)
    irises: np.ndarray = middle + EYEBALL * moved
    return irises


def _pose(motion: FaceMotion, part: slice) -> Pose:
    angles = np.asarray(motion.angles[part], np.float64)
    scale = np.full(len(angles), _PIXELS_PER_CM)
    if motion.zoom is not None:
        scale = scale * motion.zoom[part]
    centre = np.full((len(angles), 2), _CENTRE)
    if motion.travel is not None:
        centre = centre + _PIXELS_PER_CM * motion.travel[part]
    yaw, pitch, roll = angles.T
    return Pose.from_angles(yaw, pitch, roll, scale, centre)
