"""The 52 ARKit facial actions (blendshapes): order, indices by name, mirroring, and gaze."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int

# As anny's FACIAL_ACTION_LABELS. MediaPipe's 52 blendshapes are `_neutral` and these without `tongueOut`. Left and
# right are the person's own, in ARKit, in anny and in MediaPipe alike.
# fmt: off
ACTIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)
# fmt: on
NUM_ACTIONS = len(ACTIONS)

_INDEX = {name: index for index, name in enumerate(ACTIONS)}

LIDS = [_INDEX["eyeBlinkLeft"], _INDEX["eyeBlinkRight"]]
GAZE = [place for name, place in _INDEX.items() if name.startswith("eyeLook")]
MOUTH = [place for name, place in _INDEX.items() if name.startswith(("jaw", "mouth", "tongue", "cheekPuff"))]

GAZE_DEGREES: Mapping[str, float] = {"In": 38.0, "Out": 38.0, "Up": 28.0, "Down": 30.0}
"""Rotation of an eye by its action `eyeLook...` at 1."""


def action_index(name: str) -> int:
    """Return the column of an action. Raises KeyError for an unknown name."""
    return _INDEX[name]


def _other_side(name: str) -> str:
    """Return `jawLeft` for `jawRight` and vice versa; a name without a side is returned unchanged."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


MIRRORED: Int[np.ndarray, " actions"] = np.array([_INDEX[_other_side(name)] for name in ACTIONS])
"""Column of each action's mirror image: `actions[:, MIRRORED]` is the mirrored face."""


def vector(weights: Mapping[str, float]) -> Float32[np.ndarray, " actions"]:
    """Return the weights of all actions from a few by name; a name without its side (`mouthSmile`) sets both sides."""
    face = np.zeros(NUM_ACTIONS, np.float32)
    for name, weight in weights.items():
        for full in (name,) if name in _INDEX else (f"{name}Left", f"{name}Right"):
            face[_INDEX[full]] = weight
    return face


# Actions of both eyes that turn the gaze to the picture's right and left, and up and down.
_GAZE_ACTIONS = (
    (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
)


def gaze_to_actions(gaze: Float[np.ndarray, "frames 2"]) -> Float[np.ndarray, "frames 52"]:
    """Return the actions that turn both eyes by a gaze (to the picture's right, up; -1..1 each); all others are 0."""
    actions = np.zeros((len(gaze), NUM_ACTIONS))
    for column, (more, less) in enumerate(_GAZE_ACTIONS):
        for name in more:
            actions[:, _INDEX[name]] = np.clip(gaze[:, column], 0, 1)
        for name in less:
            actions[:, _INDEX[name]] = np.clip(-gaze[:, column], 0, 1)
    return actions


def actions_to_gaze(actions: Float[np.ndarray, "frames 52"]) -> Float[np.ndarray, "frames 2"]:
    """Return the mean gaze of both eyes (to the picture's right, up; -1..1 each)."""
    columns = [
        sum(actions[:, _INDEX[name]] for name in more) - sum(actions[:, _INDEX[name]] for name in less)
        for more, less in _GAZE_ACTIONS
    ]
    return np.asarray(np.stack(columns, axis=-1) / 2)
