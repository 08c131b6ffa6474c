"""Retarget landmarks: transfer the driver's motion to the shape of the source's face.

The driver's raw landmarks would give the portrait the driver's face shape, the main weakness of the original method.
Instead, the change of pose and expression since the driver's neutral frame is applied to the source, each part of the
face at the source's scale.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import (
    INNER_LIP,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BRIDGE,
    NOSTRILS,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    Pose,
    eye_openness,
    find_neutral_frame,
    fit_pose,
    unproject,
)
from training.animation.smoothing import one_euro
from training.images import smooth_step

# Soft limits of the head's angles and, from the picture's own pose, of their changes, degrees: a picture hides too much
# of the face for more (docs/experiments.md has the measurements).
_MAX_YAW, _MAX_PITCH, _MAX_ROLL = 40.0, 25.0, 45.0
_MIN_TURN = 4.0  # degrees that a source already beyond these limits may still turn
_MAX_TRANSLATION = 0.4  # soft limit of the head's translation, in units of the face's height
_MAX_ZOOM = 1.4  # soft limit of the change of scale
_EXACT = 0.3  # share of the room up to which changes of pose are followed exactly
_MAX_LID_GAIN = 0.4  # limit of how much wider than in the portrait an eye opens, relative to its opening there
_MIN_GAP = 0.1  # gap that remains of a shut eye, relative to its opening: a spline cannot separate lids that touch
_FRAMES_AT_ONCE = 1000
# Expression of mouth and jaw that a picture shows itself, root of the mean square over the points, centimetres: less is
# a face's shape, more is wholly an expression (docs/experiments.md has the measurements).
_SHAPE, _EXPRESSION = 0.3, 0.55
_OPPOSITE_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_OPPOSITE_LIPS = ((61, 67), (62, 66), (63, 65))

PARTS = ("lips", "eyes", "pose", "brows", "gaze")
"""What of the driver's motion can be transferred alone: lips with jaw and nose, lids, the head, brows, gaze."""
_POINTS = {
    "lips": (*range(JAW.stop), *range(NOSE_BRIDGE.start, NOSTRILS.stop), *range(OUTER_LIP.start, INNER_LIP.stop)),
    "eyes": (*range(RIGHT_EYE.start, LEFT_EYE.stop),),
    "brows": (*range(RIGHT_BROW.start, LEFT_BROW.stop),),
}


def parse_parts(text: str) -> tuple[str, ...]:
    """Return the parts that a text such as "lips,eyes" names, in the order of `PARTS`.

    Raises:
        ValueError: it names none, or an unknown one.
    """
    named = text.replace(",", " ").split()
    for name in named:
        if name not in PARTS:
            raise ValueError(f"parts must be of {', '.join(PARTS)}, got {name[:40]!r}")
    if not named:
        raise ValueError(f"parts must name at least one of {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in named)


@dataclass(frozen=True)
class MotionOptions:
    """How much of the driver's motion to transfer."""

    expression: float = 1.0
    """Strength of expression: 0 keeps the portrait's, 1 is the driver's."""
    head_motion: float = 1.0
    """Strength of head rotation, translation and scale."""
    gaze: float = 1.0
    """Strength of gaze: 0 keeps the portrait's, 1 follows the driver's; needs a detector of irises."""
    smoothing: float = 0.5
    """Temporal smoothing of landmarks in [0, 1]; 0: none."""
    neutral_frame: int | None = None
    """Index of the driver's neutral frame; default: the most frontal and relaxed one."""
    parts: tuple[str, ...] = PARTS
    """What to transfer, of `PARTS`; the portrait keeps its own of the rest."""
    absolute: bool = False
    """Whether the driver's expression is relative to a neutral face instead of its own neutral frame, as for a driver
    who smiles throughout. The pose stays relative."""

    def __post_init__(self) -> None:
        for name in ("expression", "head_motion", "gaze"):
            if not 0 <= getattr(self, name) <= 3:
                raise ValueError(f"{name} must lie in [0, 3], got {getattr(self, name)}")
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"smoothing must lie in [0, 1], got {self.smoothing}")
        parse_parts(" ".join(self.parts))

    @property
    def point_strengths(self) -> Float[np.ndarray, "68 1"]:
        """Strength of each landmark's expression."""
        strengths = np.zeros((68, 1))
        for part, points in _POINTS.items():
            strengths[[*points]] = self.expression * (part in self.parts)
        return strengths

    @property
    def pose_strength(self) -> float:
        """Strength of the head's motion."""
        return self.head_motion * ("pose" in self.parts)

    @property
    def gaze_strength(self) -> float:
        """Strength of gaze."""
        return self.gaze * ("gaze" in self.parts)


def retarget(
    source: Float[np.ndarray, "68 2"],
    driver: Float[np.ndarray, "frames 68 2"],
    fps: float,
    options: MotionOptions,
    rest: Float[np.ndarray, "68 2"] | None = None,
    source_rest: Float[np.ndarray, "68 2"] | None = None,
) -> Float[np.ndarray, "frames 68 2"]:
    """Return the source's landmarks for each driver frame, in source pixels.

    For the driver's neutral frame they equal `source`. Left and right are those of the image.

    Args:
        rest: the driver's landmarks at rest, where they are known; None: those of its neutral frame.
        source_rest: the source's without its expression (`motion.fit_actions.without_expression`), so that a smile of
            the driver does not widen one that the source has already; None: the driver's motion is added.

    Raises:
        ValueError: `neutral_frame` is not a frame of the driver.
    """
    smooth = one_euro(driver, fps, options.smoothing)
    neutral = smooth[resolve_neutral_frame(driver, options)] if rest is None else rest
    source_pose, neutral_pose = fit_pose(source), fit_pose(neutral)
    source_head, neutral_head = unproject(source, source_pose), unproject(neutral, neutral_pose)
    scales = part_scales(source_head, neutral_head)
    shown = np.zeros_like(source_head) if source_rest is None else source_head - unproject(source_rest, source_pose)
    moved = np.empty((len(driver), 68, 2), np.float32)
    # In parts: the heads of an hour's frames would take gigabytes.
    for first in range(0, len(driver), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        driver_pose = fit_pose(smooth[part])
        change = (unproject(smooth[part], driver_pose) - neutral_head) * scales
        change = _beyond_shown(options.point_strengths * change, shown)
        heads = _limit_gaps(source_head + change, source_head)
        pose = _moved_pose(source_pose, driver_pose, neutral_pose, source, options.pose_strength)
        moved[part] = pose.project(heads)
    return moved


def resolve_neutral_frame(driver: Float[np.ndarray, "frames 68 2"], options: MotionOptions) -> int:
    """Return the index of the driver's neutral frame: the options', else that of `find_neutral_frame`.

    Raises:
        ValueError: `options.neutral_frame` is not a frame of the driver.
    """
    neutral = find_neutral_frame(driver) if options.neutral_frame is None else options.neutral_frame
    if not 0 <= neutral < len(driver):
        raise ValueError(f"neutral_frame {neutral} is not one of the driver's {len(driver)} frames")
    return neutral


def part_scales(source: Float[np.ndarray, "68 3"], driver: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """Return the scale of each point's change from driver to source, given both neutral heads in centimetres.

    Lids scale with the eye's opening, so that a shut eye shuts; lips and jaw with the mouth's width.
    """
    scales = np.ones((68, 3))
    mouth = np.clip(_width(source, 48, 54) / _width(driver, 48, 54), 0.6, 1.6)
    scales[OUTER_LIP] = scales[INNER_LIP] = scales[JAW] = mouth
    eyes = zip((RIGHT_EYE, LEFT_EYE), eye_openness(source[:, :2]), eye_openness(driver[:, :2]), strict=True)
    for eye, source_openness, driver_openness in eyes:
        width = _width(source, eye.start, eye.start + 3) / _width(driver, eye.start, eye.start + 3)
        scales[eye, 0] = np.clip(width, 0.6, 1.6)
        scales[eye, 1] = np.clip(width * source_openness / max(float(driver_openness), 1e-3), 0.4, 2.0)
    brow = np.clip(_width(source, 17, 26) / _width(driver, 17, 26), 0.6, 1.6)
    scales[RIGHT_BROW] = scales[LEFT_BROW] = brow
    scales[:, 2] = 1
    return scales


def _beyond_shown(
    change: Float[np.ndarray, "frames 68 3"], shown: Float[np.ndarray, "68 3"]
) -> Float[np.ndarray, "frames 68 3"]:
    """Take from a change of mouth and jaw what the source shows of the same expression, at most as much as it shows.

    Two smiles of one strength are then that smile, not one of twice the strength.
    """
    mouth = [*_POINTS["lips"]]
    length = float(np.linalg.norm(shown[mouth]))
    strength = np.array([length / np.sqrt(len(mouth))])
    share = float(smooth_step((strength - _SHAPE) / (_EXPRESSION - _SHAPE))[0])
    if share == 0:
        return change
    direction = shown[mouth] / length
    common = np.clip((change[:, mouth] * direction).sum(axis=(1, 2)), 0, share * length)
    beyond = change.copy()
    beyond[:, mouth] -= common[:, None, None] * direction
    return beyond


def _limit_gaps(
    moved: Float[np.ndarray, "frames 68 3"], source: Float[np.ndarray, "68 3"]
) -> Float[np.ndarray, "frames 68 3"]:
    """Keep lids and lips from crossing, which would fold the warp, and limit the opening of eyes, since the portrait
    shows no more of the white."""
    limited = moved.copy()
    for upper, lower in _OPPOSITE_LIDS + _OPPOSITE_LIPS:
        own = max(float(source[lower, 1] - source[upper, 1]), 0.0)
        gap = moved[:, lower, 1] - moved[:, upper, 1]
        new_gap = np.maximum(gap, _MIN_GAP * own)
        if (upper, lower) in _OPPOSITE_LIDS:
            room = max(_MAX_LID_GAIN * own, 1e-3)
            new_gap = np.minimum(new_gap, own + room * np.tanh(np.maximum(new_gap - own, 0) / room))
        limited[:, lower, 1] += (new_gap - gap) / 2
        limited[:, upper, 1] -= (new_gap - gap) / 2
    return limited


def _width(head: Float[np.ndarray, "68 3"], a: int, b: int) -> float:
    return max(float(np.linalg.norm(head[a, :2] - head[b, :2])), 1e-3)


def _moved_pose(
    source: Pose, driver: Pose, neutral: Pose, landmarks: Float[np.ndarray, "68 2"], strength: float
) -> Pose:
    """Apply the driver's change of pose since its neutral frame to the source's pose, within soft limits."""
    yaw, pitch, roll = (
        _limit_angle(float(own), strength * (angle - at_rest), limit)
        for own, angle, at_rest, limit in (
            (source.yaw, driver.yaw, neutral.yaw, _MAX_YAW),
            (source.pitch, driver.pitch, neutral.pitch, _MAX_PITCH),
            (source.roll, driver.roll, neutral.roll, _MAX_ROLL),
        )
    )
    log_zoom = _limit(strength * np.log(driver.scale / neutral.scale), float(np.log(_MAX_ZOOM)))
    per_driver_pixel = source.scale / neutral.scale
    translation = strength * (driver.translation - neutral.translation) * per_driver_pixel
    moved = source.translation + _limit(translation, _MAX_TRANSLATION * float(np.ptp(landmarks[:, 1])))
    return Pose.from_angles(yaw, pitch, roll, np.asarray(source.scale * np.exp(log_zoom)), moved)


def _limit_angle(own: float, change: Float[np.ndarray, "frames"], limit: float) -> Float[np.ndarray, "frames"]:
    """Return `own + change`, with both the angle and its change softly limited to ±limit, or the angle to the source's
    own if that is further: a turn to either side of the picture shows what the picture hides."""
    before, after = min(limit + own, limit), min(limit - own, limit)
    return np.asarray(own + soft_limit(change, before, after, _MIN_TURN, exact=_EXACT))


def _limit(change: Float[np.ndarray, "..."], limit: float) -> Float[np.ndarray, "..."]:
    return soft_limit(change, limit, limit, 0.0, exact=_EXACT)


def soft_limit(
    change: Float[np.ndarray, "..."],
    room_before: Float[np.ndarray, "..."] | float,
    room_after: Float[np.ndarray, "..."] | float,
    min_room: float,
    *,
    exact: float = 0.0,
) -> Float[np.ndarray, "..."]:
    """Limit a change softly to the room in its direction, which is at least `min_room`.

    Args:
        exact: share of the room in [0, 1) up to which a change is returned unaltered; a hyperbolic tangent bends the
            rest. The slope is continuous, so that a moving head does not jerk there.
    """
    room = np.maximum(np.where(change > 0, room_after, room_before), min_room)
    share = np.abs(change) / room
    rest = 1 - exact
    bent = np.where(share <= exact, share, exact + rest * np.tanh((share - exact) / rest))
    return np.asarray(np.sign(change) * room * bent)
