"""Twelve sliders that set a face's expression and pose, as actions and angles.

Importing this module loads no torch: an HTTP front end describes the sliders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from pipelines.synthetic.head.arkit_actions import ACTIONS, vector

if TYPE_CHECKING:
    from training.animation.motion.face_motion import FaceMotion

SLIDER_RANGES: Mapping[str, tuple[float, float]] = {
    "pitch": (-25.0, 25.0),
    "yaw": (-40.0, 40.0),
    "roll": (-40.0, 40.0),
    "blink": (-1.0, 1.0),
    "brow": (-1.0, 1.0),
    "wink": (-1.0, 1.0),
    "pupil_x": (-1.0, 1.0),
    "pupil_y": (-1.0, 1.0),
    "aaa": (0.0, 1.0),
    "eee": (0.0, 1.0),
    "woo": (0.0, 1.0),
    "smile": (-1.0, 1.0),
}
"""Smallest and largest value of each slider."""


@dataclass(frozen=True)
class Sliders:
    """Values of the sliders; at 0, each leaves the portrait as it is. "Left" and "right" are the picture's.

    Raises:
        ValueError: a value is no number in its range (`SLIDER_RANGES`).
    """

    pitch: float = 0.0
    """Turn of the head, degrees in [-25, 25]: above 0 it looks up."""
    yaw: float = 0.0
    """Turn of the head, degrees in [-40, 40]: above 0 to the picture's right."""
    roll: float = 0.0
    """Tilt of the head, degrees in [-40, 40]: above 0 clockwise."""
    blink: float = 0.0
    """Lids of both eyes in [-1, 1]: 1 shuts them, below 0 opens them wide."""
    brow: float = 0.0
    """Brows in [-1, 1]: 1 lifts them, -1 knits them."""
    wink: float = 0.0
    """One eye in [-1, 1]: 1 shuts the one at the picture's right, -1 the other."""
    pupil_x: float = 0.0
    """Gaze in [-1, 1]: 1 looks to the picture's right."""
    pupil_y: float = 0.0
    """Gaze in [-1, 1]: 1 looks up."""
    aaa: float = 0.0
    """Mouth in [0, 1]: 1 opens it as for "ah"."""
    eee: float = 0.0
    """Mouth in [0, 1]: 1 widens it and parts the lips as for "ee"."""
    woo: float = 0.0
    """Mouth in [0, 1]: 1 purses the lips as for "oo"."""
    smile: float = 0.0
    """Corners of the mouth in [-1, 1]: 1 smiles, -1 draws them down."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in SLIDER_RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{name} must lie in [{lowest:g}, {highest:g}], got {getattr(self, name):g}")


_SHUT = 0.85  # the action at which lids touch: at 1 they cross
# Actions of a slider at 1 and at -1; a name without its side sets both. The head's brows and lips move less than a
# person's can: their actions go beyond 1.
_ACTIONS: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
    "blink": ({"eyeBlink": _SHUT}, {"eyeWide": 1.0}),
    "brow": ({"browInnerUp": 1.8, "browOuterUp": 1.8}, {"browDown": 1.8}),
    "wink": (
        {"eyeBlinkLeft": _SHUT, "cheekSquintLeft": 0.5, "mouthSmileLeft": 0.2},
        {"eyeBlinkRight": _SHUT, "cheekSquintRight": 0.5, "mouthSmileRight": 0.2},
    ),
    "pupil_x": (
        {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
        {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
    ),
    "pupil_y": ({"eyeLookUp": 1.0}, {"eyeLookDown": 1.0}),
    "aaa": ({"jawOpen": 0.5}, {}),
    "eee": ({"mouthStretch": 0.5, "mouthSmile": 0.3, "mouthUpperUp": 0.5, "mouthLowerDown": 0.6, "jawOpen": 0.05}, {}),
    "woo": ({"mouthPucker": 1.7, "mouthFunnel": 0.5, "jawOpen": 0.06}, {}),
    "smile": ({"mouthSmile": 1.0, "cheekSquint": 0.4}, {"mouthFrown": 1.0}),
}


def to_motion(frames: Sequence[Sliders]) -> FaceMotion:
    """Return the motion of frames with these sliders."""
    from training.animation.motion.face_motion import FaceMotion

    angles = np.array([(each.yaw, each.pitch, each.roll) for each in frames], np.float64).reshape(-1, 3)
    return FaceMotion(np.stack([_actions(each) for each in frames]), angles)


def _actions(sliders: Sliders) -> Float64[np.ndarray, " 52"]:
    total = np.zeros(len(ACTIONS))
    for name, directions in _ACTIONS.items():
        value = getattr(sliders, name)
        total += abs(value) * vector(directions[int(value < 0)])
    lids = [ACTIONS.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    total[lids] = np.minimum(total[lids], _SHUT)  # a blink and a wink shut an eye once
    return total


assert tuple(SLIDER_RANGES) == tuple(field.name for field in fields(Sliders))
