"""Procedural speech: phrases of 3 to 7 syllables per second, with pauses between them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pipelines.synthetic.head.arkit_actions import NUM_ACTIONS, vector
from pipelines.synthetic.motion.curves import ease_through

# Visemes as ARKit actions; a name without a side sets both sides.
_VOWELS = np.stack(
    [
        vector({"jawOpen": 0.55, "mouthLowerDown": 0.35, "mouthUpperUp": 0.15}),  # father
        vector({"jawOpen": 0.32, "mouthStretch": 0.3, "mouthLowerDown": 0.4, "mouthUpperUp": 0.2}),  # bed
        vector({"jawOpen": 0.14, "mouthStretch": 0.5, "mouthLowerDown": 0.35, "mouthSmile": 0.15}),  # see
        vector({"jawOpen": 0.42, "mouthFunnel": 0.5, "mouthLowerDown": 0.1}),  # thought
        vector({"jawOpen": 0.16, "mouthFunnel": 0.3, "mouthPucker": 0.6}),  # food
        vector({"jawOpen": 0.28, "mouthLowerDown": 0.2, "mouthFunnel": 0.15}),  # ago
    ]
)
_CONSONANTS = np.stack(
    [
        vector({"jawOpen": 0.08, "mouthClose": 0.08, "mouthPress": 0.3, "mouthRollLower": 0.15}),  # m, b, p
        vector({"jawOpen": 0.08, "mouthRollLower": 0.35, "mouthUpperUp": 0.2}),  # f, v
        vector({"jawOpen": 0.05, "mouthStretch": 0.2, "mouthLowerDown": 0.3, "mouthUpperUp": 0.1}),  # s, t, d
        vector({"jawOpen": 0.1, "mouthFunnel": 0.4, "mouthPucker": 0.2}),  # sh, ch, r
        vector({"jawOpen": 0.14, "mouthLowerDown": 0.15}),  # k, n, l
    ]
)

SYLLABLES_PER_S = (3.0, 7.0)
PHRASE_S = (0.8, 3.0)
PAUSE_S = (0.25, 1.2)


def speech(
    rng: np.random.Generator, times: Float[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, "frames 52"], list[float]]:
    """Return the actions of the mouth at `times` (ascending seconds), and the times of accented syllables.

    A syllable is a consonant and a vowel; faster syllables have smaller amplitudes. Between phrases the lips rest.
    """
    knots, forms, accents = [float(times[0]) - 1.0], [np.zeros(NUM_ACTIONS)], []
    now = float(times[0]) + float(rng.uniform(-1.5, 0.5))  # some clips start within a phrase
    mean_rate, loudness = rng.uniform(*SYLLABLES_PER_S), rng.uniform(0.7, 1.5)
    while now < times[-1]:
        end = now + rng.uniform(*PHRASE_S)
        accent = int(rng.integers(0, 3))
        while now < end:
            rate = float(np.clip(mean_rate * rng.uniform(0.8, 1.25), *SYLLABLES_PER_S))
            size = loudness * np.sqrt(4.0 / rate) * rng.uniform(0.7, 1.15)
            knots += [now, now + 0.5 / rate]
            forms += [size * rng.choice(_CONSONANTS), size * rng.choice(_VOWELS)]
            accent -= 1
            if accent < 0:
                accents.append(now + 0.5 / rate)
                accent = int(rng.integers(2, 6))
            now += 1 / rate
        pause = float(rng.uniform(*PAUSE_S))
        knots += [now, now + 0.6 * pause]
        forms += [np.zeros(NUM_ACTIONS), np.zeros(NUM_ACTIONS)]
        now += pause
    first = sum(knot <= times[0] - 1.0 for knot in knots[1:])  # the phrase may have started before the first knot
    del knots[1 : 1 + first], forms[1 : 1 + first]
    return np.clip(ease_through(times, knots, np.stack(forms)), 0, 1), accents
