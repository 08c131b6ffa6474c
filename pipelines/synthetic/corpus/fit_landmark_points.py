"""Where landmark detectors see the 68 points on parametric heads: to place the true points.

`python -m pipelines.synthetic.corpus.fit_landmark_points` finds the points anew and writes them into the package.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pipelines.cli import console
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.head_pose import MIRRORED
from pipelines.synthetic.head.person import Person, generator
from pipelines.synthetic.motion.motion import ACTIONS, Motion
from pipelines.synthetic.render.renderer import Renderer
from pipelines.synthetic.render.scene import Scene

_INNER_LIP = range(60, 68)
_JAW_ANGLES = (3, 13)
"""Only ever seen at grazing angles, where a pixel spans a centimetre of skin, and then too far in front."""


def bare_faces(num_people: int) -> Iterator[tuple[Person, Scene, Motion, bool]]:
    """Shaven, bald people at rest, their heads turned this way and that; the last says whether the mouth is open."""
    for identity in range(num_people):
        rng = generator(identity, "study")
        person = Person.draw(1, identity)
        skin = dataclasses.replace(person.skin, beard=0.0, moustache=0.0, stubble=0.0, brow=0.8)
        hair = dataclasses.replace(person.hair, style="bald", thickness=0.0, fall=0.0)
        person = dataclasses.replace(person, skin=skin, hair=hair, glasses=0.0)
        scene = dataclasses.replace(Scene.draw(1, identity, 0), head=0.7, grain=0.0)
        for is_open in (False, True):
            actions = np.zeros((1, len(ACTIONS)), np.float32)
            actions[0, ACTIONS.index("jawOpen")] = 0.35 * is_open
            angles = np.array([[rng.uniform(-25, 25), rng.uniform(-10, 10), 0]], np.float32)
            yield person, scene, Motion(25.0, actions, angles, np.zeros((1, 2), np.float32)), is_open


def find_points(detector: LandmarkDetector, num_people: int = 60) -> Float[np.ndarray, "68 3"]:
    """The template's place of each point: the mean of where the detector sees it on the skin, made symmetric.

    Squarely seen places count more; the inner lips are taken from open mouths, all else from shut ones; the jaw's
    angles lie halfway between their neighbours.
    """
    renderer = Renderer(512)
    total, weight = np.zeros((68, 3)), np.zeros((68, 1))
    inner = np.isin(np.arange(68), _INNER_LIP)
    for person, scene, motion, is_open in bare_faces(num_people):
        faces = detector.detect(renderer.frames([person], [scene], [motion]).images[0].numpy())
        if not faces:
            continue
        seen = renderer.template_at(person, scene, motion, torch.from_numpy(faces[0].landmarks).float()).numpy()
        worth = seen[:, 3:] * (inner == is_open)[:, None]
        total += seen[:, :3] * worth
        weight += worth
    points = total / np.maximum(weight, 1e-9)
    for angle in _JAW_ANGLES:
        points[angle] = (points[angle - 1] + points[angle + 1]) / 2
    return np.asarray((points + points[[*MIRRORED]] * (-1, 1, 1)) / 2)


def main() -> None:
    """Find the points and write them."""
    points = find_points(create_detector("mediapipe"))
    path = Path(__file__).parents[1] / "head" / "data" / "landmarks.json"
    path.write_text(json.dumps(points.round(5).tolist()) + "\n")
    console().print(f"points: {path}")


if __name__ == "__main__":
    main()
