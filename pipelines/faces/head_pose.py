"""A canonical 3-D head: estimate a face's pose and its skull's position from the 68 landmarks.

The 68 points are those of MediaPipe's canonical face model (Apache-2.0; the vertex buffer inside
`face_landmarker.task`) that correspond to the iBUG points, in centimetres. Axes: x to the picture's right, y down,
z away from the camera, origin inside the head. The skull points are Sfumato's own: hairline, crown and the sides of the
head behind the jaw, which no landmark detector reports and which have to move with the face.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NUM_LANDMARKS = 68
"""Points of a face in iBUG's order."""

JAW = slice(0, 17)
RIGHT_BROW = slice(17, 22)
LEFT_BROW = slice(22, 27)
NOSE_BRIDGE = slice(27, 31)
NOSTRILS = slice(31, 36)
RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
OUTER_LIP = slice(48, 60)
INNER_LIP = slice(60, 68)
LIPS = slice(OUTER_LIP.start, INNER_LIP.stop)
EYE_CORNERS = ((36, 39), (42, 45))
"""Corners of each eye, the one at the image's left first."""

# fmt: off
CANONICAL_LANDMARKS: Float[np.ndarray, "68 3"] = np.array(
    [
        (-7.556, -4.107, 0.992), (-7.664, -0.673, 2.436), (-7.542, 1.049, 2.431),
        (-6.72, 4.789, 1.745), (-5.941, 6.224, 0.631), (-5.085, 7.179, -0.715),
        (-3.211, 8.533, -2.802), (-1.293, 9.296, -4.094), (0, 9.403, -4.264),
        (1.293, 9.296, -4.094), (3.211, 8.533, -2.802), (5.085, 7.179, -0.715),
        (5.941, 6.224, 0.631), (6.72, 4.789, 1.745), (7.542, 1.049, 2.431),
        (7.664, -0.673, 2.436), (7.556, -4.107, 0.992), (-6.374, -4.786, -1.592),
        (-4.986, -4.802, -3.752), (-3.987, -5.109, -4.466), (-2.76, -5.101, -5.016),
        (-1.396, -5.012, -5.316), (1.396, -5.012, -5.316), (2.76, -5.101, -5.016),
        (3.987, -5.109, -4.466), (4.986, -4.802, -3.752), (6.374, -4.786, -1.592),
        (0, -3.271, -5.236), (0, -1.728, -6.317), (0, -0.366, -7.243),
        (0, 0.463, -7.587), (-1.044, 1.465, -5.662), (-0.597, 2.014, -5.866),
        (0, 2.089, -6.058), (0.597, 2.014, -5.866), (1.044, 1.465, -5.662),
        (-4.446, -2.664, -3.173), (-3.67, -2.928, -3.724), (-2.724, -2.962, -3.872),
        (-1.856, -2.585, -3.758), (-2.724, -2.316, -3.777), (-3.67, -2.36, -3.635),
        (1.856, -2.585, -3.758), (2.724, -2.962, -3.872), (3.67, -2.928, -3.724),
        (4.446, -2.664, -3.173), (3.67, -2.36, -3.635), (2.724, -2.316, -3.777),
        (-2.456, 4.343, -4.284), (-1.432, 3.501, -5.496), (-0.711, 3.329, -5.877),
        (0, 3.406, -5.98), (0.711, 3.329, -5.877), (1.432, 3.501, -5.496),
        (2.456, 4.343, -4.284), (1.325, 5.107, -5.205), (0.7, 5.292, -5.448),
        (0, 5.365, -5.535), (-0.7, 5.292, -5.448), (-1.325, 5.107, -5.205),
        (-2.153, 4.276, -4.038), (-0.533, 3.993, -5.138), (0, 3.994, -5.219),
        (0.533, 3.993, -5.138), (2.153, 4.276, -4.038), (0.583, 4.518, -5.34),
        (0, 4.542, -5.405), (-0.583, 4.518, -5.34),
    ]
)

SKULL_POINTS: Float[np.ndarray, "skull 3"] = np.array(
    [
        (-6.279, -6.615, -1.426), (-3.524, -8.006, -3.729), (0, -8.262, -4.482),  # hairline
        (3.524, -8.006, -3.729), (6.279, -6.615, -1.426),
        (-7.6, -8.5, 2), (-4.6, -11.6, 1), (0, -12.8, 0.5), (4.6, -11.6, 1), (7.6, -8.5, 2),  # crown
        (-9, -3, 2.5), (-8.8, 2, 3), (9, -3, 2.5), (8.8, 2, 3),  # beside the jaw; deeper, they would cross it
    ]
)
# fmt: on

# Weight of each point in the pose fit: full for bone and cartilage, little or none for skin that moves with expression.
_RIGIDITY = np.full(NUM_LANDMARKS, 0.0)
_RIGIDITY[[0, 1, 2, 14, 15, 16]] = 0.5
_RIGIDITY[17:27] = 0.2
_RIGIDITY[NOSE_BRIDGE] = 1.0
_RIGIDITY[NOSTRILS] = 1.0
_RIGIDITY[[36, 39, 42, 45]] = 1.0

# Points of one half of the face with their partners on the other; points on the midline are their own mirror images.
_PAIRS = (
    *((i, 16 - i) for i in range(8)),  # jaw
    *((17 + i, 26 - i) for i in range(5)),  # brows
    *((31 + i, 35 - i) for i in range(2)),  # nostrils
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (59, 55), (58, 56)),  # outer lip
    *((60, 64), (61, 63), (67, 65)),  # inner lip
)


def _mirrored() -> tuple[int, ...]:
    partner = dict(_PAIRS) | {right: left for left, right in _PAIRS}
    return tuple(partner.get(point, point) for point in range(NUM_LANDMARKS))


MIRRORED = _mirrored()
"""Position i holds the landmark that becomes landmark i in the mirror image."""


_RELAXED_OPENNESS = 0.75  # minimum openness of relaxed eyes, relative to the widest in the clip


@dataclass(frozen=True)
class Pose:
    """Weak-perspective camera of one or more heads: `image = scale * (rotation @ head)[:2] + translation`.

    Angles are in degrees as seen in the image: `yaw` > 0 turns the face to the image's right, `pitch` > 0 looks up,
    `roll` > 0 tilts clockwise.
    """

    rotation: Float[np.ndarray, "*batch 3 3"]
    scale: Float[np.ndarray, "*batch"]  # pixels per centimetre
    translation: Float[np.ndarray, "*batch 2"]  # pixels

    @classmethod
    def from_angles(
        cls,
        yaw: Float[np.ndarray, "*batch"],
        pitch: Float[np.ndarray, "*batch"],
        roll: Float[np.ndarray, "*batch"],
        scale: Float[np.ndarray, "*batch"],
        translation: Float[np.ndarray, "*batch 2"],
    ) -> "Pose":
        """Return the pose with these angles in degrees: pitch is applied to the head first, roll last."""
        (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in np.radians([-yaw, -pitch, roll]))
        rows = [
            [cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp],
            [sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp],
            [-sy, cy * sp, cy * cp],
        ]
        return cls(np.stack([np.stack(row, axis=-1) for row in rows], axis=-2), scale, translation)

    @property
    def yaw(self) -> Float[np.ndarray, "*batch"]:
        return np.asarray(np.degrees(np.arcsin(np.clip(self.rotation[..., 2, 0], -1, 1))))

    @property
    def pitch(self) -> Float[np.ndarray, "*batch"]:
        return np.asarray(-np.degrees(np.arctan2(self.rotation[..., 2, 1], self.rotation[..., 2, 2])))

    @property
    def roll(self) -> Float[np.ndarray, "*batch"]:
        return np.asarray(np.degrees(np.arctan2(self.rotation[..., 1, 0], self.rotation[..., 0, 0])))

    def project(self, points: Float[np.ndarray, "*#batch points 3"]) -> Float[np.ndarray, "*#batch points 2"]:
        """Project head points (cm) to image points (pixels)."""
        flat = points @ np.swapaxes(self.rotation[..., :2, :], -1, -2)
        projected: np.ndarray = self.scale[..., None, None] * flat + self.translation[..., None, :]
        return projected


_POSE_FIELDS = tuple(Pose.__dataclass_fields__)
_POSES_AT_ONCE = 1000


def fit_pose(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Pose:
    """Fit the canonical head to 68 image points (pixels) by weighted least squares.

    The affine camera has a closed form; its nearest scaled rotation (orthogonal Procrustes, by SVD) is the pose.
    """
    if landmarks.ndim == 3 and len(landmarks) > _POSES_AT_ONCE:  # a track of hours would take gigabytes
        parts = (landmarks[first : first + _POSES_AT_ONCE] for first in range(0, len(landmarks), _POSES_AT_ONCE))
        poses = [fit_pose(part) for part in parts]
        return Pose(*(np.concatenate([getattr(pose, name) for pose in poses]) for name in _POSE_FIELDS))
    weights = _RIGIDITY / _RIGIDITY.sum()
    head_centre = weights @ CANONICAL_LANDMARKS
    head = CANONICAL_LANDMARKS - head_centre
    picture = np.asarray(landmarks, np.float64)
    centre = np.einsum("p,...pd->...d", weights, picture)
    root = np.sqrt(weights)[:, None]
    affine = np.swapaxes(np.linalg.pinv(head * root) @ ((picture - centre[..., None, :]) * root), -1, -2)
    left, singular, right = np.linalg.svd(affine, full_matrices=False)
    first_two = left @ right
    third = np.cross(first_two[..., 0, :], first_two[..., 1, :])
    rotation = np.concatenate([first_two, third[..., None, :]], axis=-2)
    scale = np.asarray(singular.mean(-1))
    translation = centre - scale[..., None] * np.einsum("...ij,j->...i", first_two, head_centre)
    return Pose(rotation, scale, translation)


def unproject(landmarks: Float[np.ndarray, "*batch 68 2"], pose: Pose) -> Float[np.ndarray, "*batch 68 3"]:
    """Return a person's own head in centimetres: x and y from the image, depth from the canonical head.

    `pose.project(unproject(landmarks, pose))` gives the landmarks back.
    """
    flat = (np.asarray(landmarks, np.float64) - pose.translation[..., None, :]) / pose.scale[..., None, None]
    depth = CANONICAL_LANDMARKS[:, 2]
    flat = flat - depth[:, None] * pose.rotation[..., None, :2, 2]
    across_and_down = flat @ np.swapaxes(np.linalg.inv(pose.rotation[..., :2, :2]), -1, -2)
    return np.concatenate([across_and_down, np.broadcast_to(depth[:, None], (*flat.shape[:-1], 1))], axis=-1)


def skull_points(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch skull 2"]:
    """Return hairline, crown and sides of the head in the image, from the pose of the 68 points (pixels)."""
    return fit_pose(landmarks).project(SKULL_POINTS)


def eye_openness(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch 2"]:
    """Return lid distance over eye width of the eyes at points 36-41 and 42-47: about 0.3 open, under 0.15 closed."""
    return np.stack([_aspect(landmarks, eye) for eye in ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))], axis=-1)


def gaze(
    landmarks: Float[np.ndarray, "*batch 68 2"], irises: Float[np.ndarray, "*batch 2 2"]
) -> Float[np.ndarray, "*batch 2 2"]:
    """Return the position of each iris in its eye (points 36-41 and 42-47), about (0.5, 0) for a straight gaze.

    The first coordinate runs along the line from the eye corner at the image's left (0) to the other (1), the second
    downwards from that line, in the same unit.
    """
    first, last = (landmarks[..., corner, :] for corner in zip(*EYE_CORNERS, strict=True))
    across, there = last - first, irises - first
    down = np.stack([-across[..., 1], across[..., 0]], axis=-1)
    unit = np.maximum(np.square(across).sum(axis=-1), 1e-6)
    return np.stack([(there * axis).sum(axis=-1) / unit for axis in (across, down)], axis=-1)


def mouth_openness(landmarks: Float[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch"]:
    """Return the distance of the inner lips over their width; 0 when closed."""
    return np.asarray(_distance(landmarks, 62, 66) / np.maximum(_distance(landmarks, 60, 64), 1e-6))


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


def _aspect(landmarks: Float[np.ndarray, "*batch 68 2"], eye: Sequence[int]) -> Float[np.ndarray, "*batch"]:
    corner, upper_a, upper_b, other, lower_b, lower_a = eye
    height = (_distance(landmarks, upper_a, lower_a) + _distance(landmarks, upper_b, lower_b)) / 2
    return np.asarray(height / np.maximum(_distance(landmarks, corner, other), 1e-6))


def _distance(landmarks: Float[np.ndarray, "*batch 68 2"], a: int, b: int) -> Float[np.ndarray, "*batch"]:
    return np.asarray(np.linalg.norm(landmarks[..., a, :] - landmarks[..., b, :], axis=-1))
