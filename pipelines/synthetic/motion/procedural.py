"""Procedural motion: blinks, gaze, head motion, moods and occasional strong expressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pipelines.synthetic.head.arkit_actions import LIDS, MIRRORED, MOUTH, NUM_ACTIONS, gaze_to_actions, vector
from pipelines.synthetic.motion.curves import ease, pulse, random_drift, soft_limit

BLINK_EVERY_S = (2.0, 6.0)
BLINK_DOWN_S = (0.1, 0.15)
BLINK_UP_S = (0.15, 0.25)
EYE_DEGREES = np.array([38.0, 29.0])
"""Horizontal and vertical rotation of the eyes at `eyeLook...` 1."""

# Mirrored half of the time.
EXPRESSIONS = {
    "smile": {"mouthSmile": 0.9, "cheekSquint": 0.6, "eyeSquint": 0.35, "mouthUpperUp": 0.35},
    "closed smile": {"mouthSmile": 0.6, "mouthPress": 0.25, "mouthDimple": 0.4, "cheekSquint": 0.3},
    "raised brows": {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.5},
    "frown": {"browDown": 0.9, "eyeSquint": 0.45, "noseSneer": 0.25, "mouthFrown": 0.35},
    "sadness": {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.4},
    "mouth wide open": {
        "jawOpen": 0.95,
        "mouthLowerDown": 0.4,
        "mouthUpperUp": 0.2,
        "browInnerUp": 0.4,
        "eyeWide": 0.4,
    },
    "laugh": {
        "jawOpen": 0.45,
        "mouthSmile": 0.9,
        "mouthUpperUp": 0.5,
        "mouthLowerDown": 0.3,
        "cheekSquint": 0.7,
        "eyeSquint": 0.5,
    },
    "wink": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.35, "browDownLeft": 0.3},
    "disgust": {"noseSneer": 0.85, "mouthUpperUp": 0.55, "browDown": 0.5, "eyeSquint": 0.4},
    "kiss": {"mouthPucker": 0.95, "mouthFunnel": 0.25},
    "puffed cheeks": {"cheekPuff": 0.9, "mouthPress": 0.35},
    "one brow": {"browOuterUpLeft": 0.9, "browDownRight": 0.5},
    "mouth to the side": {"mouthLeft": 0.7, "jawLeft": 0.4, "mouthSmileLeft": 0.2},
}

_DEGREES_PER_WIDTH = 20.0  # head roll per sideways travel, in head widths

_MOODS: tuple[dict[str, float], ...] = (
    {},
    {"mouthSmile": 0.45, "cheekSquint": 0.25},
    {"mouthFrown": 0.3, "browDown": 0.3},
    {"browInnerUp": 0.35},
    {"browDown": 0.35, "eyeSquint": 0.4},
    {"mouthPress": 0.25, "mouthShrugLower": 0.25},
)


def blinks(rng: np.random.Generator, times: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 52"]:
    """Return blinks of both lids, 2 to 6 s apart; lids close faster than they open."""
    actions = np.zeros((len(times), NUM_ACTIONS))
    now = float(times[0]) + float(rng.uniform(-0.4, BLINK_EVERY_S[1]))
    while now < times[-1]:
        depth = rng.uniform(0.85, 1.0) * rng.uniform(0.93, 1.0, size=2)  # the two lids differ slightly
        shape = pulse(times, now, rng.uniform(*BLINK_DOWN_S), rng.uniform(0.0, 0.05), rng.uniform(*BLINK_UP_S))
        actions[:, LIDS] = np.maximum(actions[:, LIDS], shape[:, None] * depth)
        now += float(rng.uniform(*BLINK_EVERY_S))
    return actions


def gaze(
    rng: np.random.Generator, times: Float[np.ndarray, " frames"], angles: Float[np.ndarray, "frames 3"]
) -> Float[np.ndarray, "frames 52"]:
    """Return the gaze of both eyes: fixations of 0.3 to 2.5 s joined by saccades.

    60 % of the fixations are at the camera and stay on it while the head turns. Of the others, 70 % stay on a point in
    the room and 30 % move with the head.
    """
    head = angles[:, :2]
    looks = np.zeros((len(times), 2))
    now, first = float(times[0]) - 1.0, True
    while now < times[-1]:
        at_camera, held = rng.random() < 0.6, rng.random() < 0.7
        aim = rng.normal(0, 1.0, 2) if at_camera else rng.normal(0, [10.0, 6.0])
        # Gaze relative to the head: a fixed point moves against the head's rotation.
        target = aim - head * (at_camera or held)
        share = 1.0 if first else ease((times - now) / rng.uniform(0.05, 0.08))[:, None]
        looks = looks * (1 - share) + target * share
        first = False
        now += float(rng.uniform(0.3, 2.5))
    return gaze_to_actions(soft_limit(looks, EYE_DEGREES) / EYE_DEGREES)


def head_motion(
    rng: np.random.Generator, times: Float[np.ndarray, " frames"], accents: Sequence[float]
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames 3"]]:
    """Return yaw, pitch, roll in degrees around 0, and travel as in `Motion`: drift, turns, leaning, nods."""
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    angles = random_drift(rng, len(times), 3, 0.5 * rate) * [3.5, 2.0, 1.8] * rng.uniform(0.4, 1.5)
    travel = random_drift(rng, len(times), 3, 0.8 * rate) * rng.uniform(0.01, 0.05)
    now = float(times[0])
    while (now := now + float(rng.uniform(1.0, 5.0))) < times[-1]:  # a new pose, held for a while
        held = pulse(times, now, rng.uniform(0.4, 0.9), rng.uniform(0.3, 2.5), rng.uniform(0.5, 1.2))[:, None]
        turn, lean = rng.normal(0, [9.0, 4.5, 4.0]), rng.normal(0, [0.1, 0.05, 0.08])
        turn[2] += _DEGREES_PER_WIDTH * lean[0]
        angles, travel = angles + held * turn, travel + held * lean
    for accent in accents:
        if rng.random() < 0.6:
            nod = pulse(times, accent - 0.15, 0.16, 0.04, 0.3)
            angles[:, 1] -= nod * rng.uniform(1.5, 6.0)
    return angles, travel


def mood_expression(
    rng: np.random.Generator, times: Float[np.ndarray, " frames"], accents: Sequence[float]
) -> Float[np.ndarray, "frames 52"]:
    """Return a nearly constant mood, and brows that rise at some accents."""
    mood = vector(_MOODS[int(rng.integers(len(_MOODS)))])
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    actions = mood * rng.uniform(0, 1) * np.clip(1 + 0.4 * random_drift(rng, len(times), 1, 0.6 * rate), 0, None)
    raised = vector({"browInnerUp": 0.5, "browOuterUp": 0.4})
    for accent in accents:
        if rng.random() < 0.3:
            actions = np.maximum(actions, pulse(times, accent - 0.2, 0.2, 0.1, 0.4)[:, None] * raised)
    return np.asarray(np.clip(actions, 0, 1))


def with_expressions(
    rng: np.random.Generator, times: Float[np.ndarray, " frames"], actions: Float[np.ndarray, "frames 52"]
) -> Float[np.ndarray, "frames 52"]:
    """Add strong expressions, on average every 5 s, that override the actions they use."""
    now = float(times[0]) - 2.0
    names = list(EXPRESSIONS)
    while (now := now + float(rng.exponential(5.0))) < times[-1]:
        target = vector(EXPRESSIONS[names[int(rng.integers(len(names)))]]) * rng.uniform(0.6, 1.1)
        target = target[MIRRORED] if rng.random() < 0.5 else target
        weight = pulse(times, now, rng.uniform(0.2, 0.5), rng.uniform(0.3, 1.5), rng.uniform(0.3, 0.8))[:, None]
        quiet = np.ones(NUM_ACTIONS)
        if target[MOUTH].any():
            quiet[MOUTH] = 0.35  # speech is damped during expressions of the mouth
        actions = actions * (1 - weight * (1 - quiet)) + weight * target
    return np.asarray(np.clip(actions, 0, 1))
