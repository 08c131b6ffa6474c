"""One picture of an avatar with an expression and a pose."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from pipelines.faces.head_pose import fit_pose
from pipelines.media.frame_times import FrameTimes
from training.animation.animator import Animator
from training.animation.motion.face_motion import to_track
from training.animation.motion.follow import follow
from training.animation.motion.sliders import Sliders, to_motion
from training.animation.retarget import MotionOptions

_NOTED_DEGREES = 2.0  # turns that fall short by less are not worth a note


@dataclass(frozen=True, eq=False)
class Still:
    """A drawn region (`Animator.paste` sets it into the picture), and what the user should know."""

    region: UInt8[np.ndarray, "side side 3"]
    notes: tuple[str, ...]


def draw_still(animator: Animator, sliders: Sliders) -> Still:
    """Draw an avatar with the sliders' expression and pose. Turns are bent by the limits of `retarget`."""
    times = FrameTimes(np.zeros(1), Fraction(25), constant=True)
    track = to_track(to_motion([sliders]), times, animator.config.detector, exact=True, adds=True)
    targets, gaze, shares = follow(animator, track, MotionOptions())
    (region,) = animator.frames(targets, gaze, shares)
    before, after = fit_pose(animator.canvas.landmarks), fit_pose(targets[0])
    notes = []
    for name in ("yaw", "pitch", "roll"):
        asked, turned = getattr(sliders, name), float(getattr(after, name) - getattr(before, name))
        if asked and abs(asked - turned) > _NOTED_DEGREES:
            notes.append(f"{name} is limited: the head turns by {turned:.0f} of {asked:.0f} degrees")
    return Still(region, tuple(notes))
