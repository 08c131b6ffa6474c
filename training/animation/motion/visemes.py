"""Phones of English -> actions of a speaking mouth.

The groups are the visemes of MPEG-4 (ISO/IEC 14496-2, table C-1), phones those of the CMU Pronouncing Dictionary
(ARPAbet). The actions of each were set by hand on the landmark head, with the mouth shut at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from jaxtyping import Float32

from pipelines.synthetic.head.arkit_actions import ACTIONS, vector

_VISEMES: tuple[tuple[str, Mapping[str, float]], ...] = (
    ("P B M", {"mouthPress": 0.3, "mouthRollLower": 0.2, "mouthRollUpper": 0.2}),
    ("F V", {"mouthRollLower": 0.5, "mouthUpperUp": 0.25, "jawOpen": 0.02}),
    ("TH DH", {"jawOpen": 0.1, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15}),
    ("T D N L", {"jawOpen": 0.1, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1}),
    ("K G NG HH", {"jawOpen": 0.14, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1}),
    ("CH JH SH ZH", {"jawOpen": 0.06, "mouthFunnel": 0.4, "mouthPucker": 0.5, "mouthLowerDown": 0.2}),
    ("S Z", {"jawOpen": 0.04, "mouthStretch": 0.25, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2}),
    ("R ER", {"jawOpen": 0.12, "mouthFunnel": 0.2, "mouthPucker": 0.5}),
    ("AA AE AW AY", {"jawOpen": 0.42, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1}),
    ("AH EH EY", {"jawOpen": 0.27, "mouthStretch": 0.2, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1}),
    (
        "IH IY Y",
        {"jawOpen": 0.12, "mouthStretch": 0.35, "mouthSmile": 0.15, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2},
    ),
    ("AO OW OY", {"jawOpen": 0.28, "mouthFunnel": 0.4, "mouthPucker": 0.7}),
    ("UH UW W", {"jawOpen": 0.08, "mouthFunnel": 0.4, "mouthPucker": 1.3}),
)


def phone_actions(phone: str) -> Float32[np.ndarray, " actions"]:
    """Return the actions of a phone such as "AH"; those of silence and noises ("SIL", "+NSN+") are 0."""
    return _table().get(phone, np.zeros(len(ACTIONS), np.float32))


@cache
def _table() -> Mapping[str, Float32[np.ndarray, " actions"]]:
    return {phone: vector(actions) for phones, actions in _VISEMES for phone in phones.split()}
