"""The driver's motion on the source's own face: shape from the portrait, change from the driver.

Feeding the driver's raw landmarks would give the portrait the driver's face shape, the top complaint about the original
method. Here each driver frame is compared with the driver's own neutral frame: what changed in pose and expression is
carried over to the source, part by part at the source's scale.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.faces.head_pose import (
    INNER_LIP,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    Pose,
    eye_openness,
    fit_pose,
    mouth_openness,
    unproject,
)
from training.animation.smoothing import one_euro

# Beyond these angles (degrees) too much of a face lies hidden for one picture to show: motion is bent to stay inside.
_MAX_YAW, _MAX_PITCH, _MAX_ROLL = 28.0, 18.0, 30.0
_LEAST_TURN = 4.0  # further than a source that is beyond them
# How far a head travels within the crop, in units of the face's height, and how much nearer or further it goes. With
# .15 and 1.15 who leans is not followed (LPIPS on synthetic pairs: docs/evaluation.md).
_MAX_TRAVEL = 0.3
_MAX_ZOOM = 1.3
# Of the widest opening in a clip, what relaxed eyes have at least.
_OPEN_AGAIN = 0.75
# How much further than in the portrait an eye may open, in units of its opening there.
_MAX_LID_GAIN = 0.4
# What stays open of a shut eye, likewise: lids that touch leave a spline no way between them.
_MIN_GAP = 0.1
_OPPOSITE_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_OPPOSITE_LIPS = ((61, 67), (62, 66), (63, 65))


@dataclass(frozen=True)
class MotionOptions:
    """How much of the driver's motion to take."""

    expression: float = 1.0
    """Strength of expression: 0 keeps the portrait's own, 1 is the driver's."""
    head_motion: float = 1.0
    """Strength of head rotation and travel."""
    gaze: float = 1.0
    """Strength of gaze: 0 keeps the portrait's own, 1 follows the driver's, where the detector sees irises."""
    smoothing: float = 0.5
    """Temporal smoothing of landmarks in [0, 1]: 0 follows every jitter, 1 is slow."""
    find_neutral_frame: int | None = None
    """Driver frame that counts as neutral; by default the most frontal and relaxed one is chosen."""

    def __post_init__(self) -> None:
        for name in ("expression", "head_motion", "gaze"):
            if not 0 <= getattr(self, name) <= 3:
                raise ValueError(f"{name} must lie in [0, 3], got {getattr(self, name)}")
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"smoothing must lie in [0, 1], got {self.smoothing}")


def retarget(
    source: Float[np.ndarray, "68 2"], driver: Float[np.ndarray, "frames 68 2"], fps: float, options: MotionOptions
) -> Float[np.ndarray, "frames 68 2"]:
    """Where the source's landmarks go in each driver frame, in source pixels.

    At the driver's neutral frame this is `source` itself. Left and right stay as the camera sees them.

    Raises:
        ValueError: `find_neutral_frame` is not a frame of the driver.
    """
    neutral = resolve_neutral_frame(driver, options)
    smooth = one_euro(driver, fps, options.smoothing)
    source_pose, driver_pose = fit_pose(source), fit_pose(smooth)
    source_head, driver_heads = unproject(source, source_pose), unproject(smooth, driver_pose)
    change = (driver_heads - driver_heads[neutral]) * _part_scales(source_head, driver_heads[neutral])
    moved = _with_lids_apart(source_head + options.expression * change, source_head)
    pose = _moved_pose(source_pose, driver_pose, neutral, source, options.head_motion)
    return pose.project(moved).astype(np.float32)


def resolve_neutral_frame(driver: Float[np.ndarray, "frames 68 2"], options: MotionOptions) -> int:
    """The driver's neutral frame: the one that the options name, else that of `find_neutral_frame`.

    Raises:
        ValueError: `options.find_neutral_frame` is not a frame of the driver.
    """
    neutral = find_neutral_frame(driver) if options.neutral_frame is None else options.neutral_frame
    if not 0 <= neutral < len(driver):
        raise ValueError(f"neutral_frame {neutral} is not one of the driver's {len(driver)} frames")
    return neutral


def find_neutral_frame(driver: Float[np.ndarray, "frames 68 2"]) -> int:
    """The most frontal frame with a relaxed, shut mouth and open eyes: not in mid-blink, not wide."""
    pose, eyes = fit_pose(driver), eye_openness(driver).mean(axis=-1)
    turned = (np.abs(pose.yaw) + np.abs(pose.pitch - np.median(pose.pitch)) + np.abs(pose.roll)) / 15
    mouth = 3 * mouth_openness(driver)
    # A smile widens the mouth, however much of the clip it lasts: rest is near the narrow end.
    width = np.linalg.norm(driver[:, 54] - driver[:, 48], axis=-1) / pose.scale
    unusual = np.abs(width / np.quantile(width, 0.2) - 1) * 8
    # Eyes may be shut for most of the clip: then the usual opening is not the relaxed one.
    relaxed = max(np.quantile(eyes, 0.7), _OPEN_AGAIN * np.quantile(eyes, 0.99))
    return int((turned + mouth + unusual + 8 * np.abs(eyes - relaxed)).argmin())


def _part_scales(source: Float[np.ndarray, "68 3"], driver: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """How large a change of each part is on the source, for one on the driver (both heads in centimetres, neutral).

    Lids scale with the eye's own opening, so that a shut eye shuts; lips and chin with the mouth's width.
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


def _with_lids_apart(
    moved: Float[np.ndarray, "frames 68 3"], source: Float[np.ndarray, "68 3"]
) -> Float[np.ndarray, "frames 68 3"]:
    """Lids and lips may meet but not cross (a warp would turn the eye inside out), and eyes open only so far: the
    portrait has no more white to show."""
    limited = moved.copy()
    for upper, lower in _OPPOSITE_LIDS + _OPPOSITE_LIPS:
        own = max(float(source[lower, 1] - source[upper, 1]), 0.0)
        gap = moved[:, lower, 1] - moved[:, upper, 1]
        wanted = np.maximum(gap, _MIN_GAP * own)
        if (upper, lower) in _OPPOSITE_LIDS:
            room = max(_MAX_LID_GAIN * own, 1e-3)
            wanted = np.minimum(wanted, own + room * np.tanh(np.maximum(wanted - own, 0) / room))
        limited[:, lower, 1] += (wanted - gap) / 2
        limited[:, upper, 1] -= (wanted - gap) / 2
    return limited


def _width(head: Float[np.ndarray, "68 3"], a: int, b: int) -> float:
    return max(float(np.linalg.norm(head[a, :2] - head[b, :2])), 1e-3)


def _moved_pose(
    source: Pose, driver: Pose, neutral: int, landmarks: Float[np.ndarray, "68 2"], strength: float
) -> Pose:
    """The source's pose, changed as the driver's changed since its neutral frame, within what one picture can show."""
    yaw, pitch, roll = (
        _bend(float(own), strength * (angle - angle[neutral]), limit)
        for own, angle, limit in (
            (source.yaw, driver.yaw, _MAX_YAW),
            (source.pitch, driver.pitch, _MAX_PITCH),
            (source.roll, driver.roll, _MAX_ROLL),
        )
    )
    zoom = np.clip((driver.scale / driver.scale[neutral]) ** strength, 1 / _MAX_ZOOM, _MAX_ZOOM)
    per_driver_pixel = source.scale / driver.scale[neutral]
    travel = strength * (driver.translation - driver.translation[neutral]) * per_driver_pixel
    reach = _MAX_TRAVEL * float(np.ptp(landmarks[:, 1]))
    return Pose.from_angles(
        yaw, pitch, roll, np.asarray(source.scale * zoom), source.translation + reach * np.tanh(travel / reach)
    )


def _bend(own: float, change: Float[np.ndarray, "frames"], limit: float) -> Float[np.ndarray, "frames"]:
    """`own + change`, approaching ±limit (or the source's own angle, where that is further) smoothly.

    Bent from the start: unaltered up to 70 % of the way landmarks lie nearer to the driver's (8.9 % of the eye distance
    for 10.1 % on synthetic pairs), and faces look worse (LPIPS .087 for .084), the Mona Lisa's by far.
    """
    return np.asarray(own + soft_limit(change, limit + own, limit - own, _LEAST_TURN))


def soft_limit(
    change: Float[np.ndarray, "..."],
    room_before: Float[np.ndarray, "..."] | float,
    room_after: Float[np.ndarray, "..."] | float,
    least: float,
) -> Float[np.ndarray, "..."]:
    """A change that approaches its room to either side smoothly; there is the least room at least."""
    room = np.maximum(np.where(change > 0, room_after, room_before), least)
    return np.asarray(room * np.tanh(change / room))
