"""Fit the 68 landmarks of the head model to where a landmark detector finds them on rendered heads.

`python -m pipelines.synthetic.corpus.fit_landmark_points` repeats the fit and writes the points into the package.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float

from pipelines.cli import console
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.head_pose import MIRRORED
from pipelines.synthetic.head.landmark_points import POINTS_FILE
from pipelines.synthetic.head.person import Person, generator
from pipelines.synthetic.motion.motion import ACTIONS, Motion
from pipelines.synthetic.render.renderer import Renderer
from pipelines.synthetic.render.scene import Scene

_INNER_LIP = range(60, 68)
_JAW_ANGLES = (3, 13)
"""Visible only at grazing angles, where a pixel spans a centimetre of skin and the fitted point is too far in front."""


def bare_faces(num_people: int) -> Iterator[tuple[Person, Scene, Motion, bool]]:
    """Yield bald, beardless people with neutral faces and turned heads, and whether the mouth is open."""
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
    """Return each landmark's mean position on the template where the detector finds it, made symmetric.

    Positions are weighted by the cosine between skin normal and view. The inner lips are fitted on open mouths, all
    other points on closed ones. The jaw angles are set halfway between their neighbours.
    """
    renderer = Renderer(512)
    total, weight = np.zeros((68, 3)), np.zeros((68, 1))
    inner = np.isin(np.arange(68), _INNER_LIP)
    for person, scene, motion, is_open in bare_faces(num_people):
        faces = detector.detect(renderer.frames([person], [scene], [motion]).images[0].numpy())
        if not faces:
            continue
        seen = renderer.template_points_at(person, scene, motion, torch.from_numpy(faces[0].landmarks).float()).numpy()
        sample_weight = seen[:, 3:] * (inner == is_open)[:, None]
        total += seen[:, :3] * sample_weight
        weight += sample_weight
    points = total / np.maximum(weight, 1e-9)
    for angle in _JAW_ANGLES:
        points[angle] = (points[angle - 1] + points[angle + 1]) / 2
    return np.asarray((points + points[[*MIRRORED]] * (-1, 1, 1)) / 2)


def main() -> None:
    """Fit the points and write them."""
    points = find_points(create_detector("mediapipe"))
    POINTS_FILE.write_text(json.dumps(points.round(5).tolist()) + "\n")
    console().print(f"points: {POINTS_FILE}")


if __name__ == "__main__":
    main()
