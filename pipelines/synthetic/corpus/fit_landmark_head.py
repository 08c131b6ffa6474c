"""Measure the mean head of synthetic people and its 52 actions at the 68 landmarks.

`python -m pipelines.synthetic.corpus.fit_landmark_head` repeats this and writes the package's file.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from pipelines.cli import console
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, MIRRORED
from pipelines.storage import atomic_write
from pipelines.synthetic.head.arkit_actions import MIRRORED as MIRRORED_ACTIONS
from pipelines.synthetic.head.landmark_head import HEAD_FILE, LandmarkHead
from pipelines.synthetic.head.landmark_points import true_points
from pipelines.synthetic.head.mesh import HeadMesh
from pipelines.synthetic.head.person import Person

_SEED = 77
_PEOPLE_AT_ONCE = 100
_DECIMALS = 4  # a micrometre


def measure(num_people: int = 3000) -> LandmarkHead:
    """Return the mean head of `num_people` drawn people, aligned by translation and scale, and made symmetric."""
    mesh = HeadMesh()
    local_labels = list(mesh.model.local_labels)
    heads = []
    for first in range(0, num_people, _PEOPLE_AT_ONCE):
        people = [Person.draw(_SEED, number) for number in range(first, min(first + _PEOPLE_AT_ONCE, num_people))]
        phenotype = torch.from_numpy(np.stack([person.phenotype for person in people]))
        local = torch.from_numpy(np.stack([person.local(local_labels) for person in people]))
        heads.append(_in_picture_axes(true_points(mesh.model.shape(phenotype, local)).numpy()))
    centred = np.concatenate(heads)
    centred -= centred.mean(axis=1, keepdims=True)
    mean = centred.mean(axis=0)
    scales = (centred * mean).sum(axis=(1, 2)) / np.square(centred).sum(axis=(1, 2))
    mean = (centred * scales[:, None, None]).mean(axis=0)
    actions = _in_picture_axes(true_points(mesh.displacements).numpy())
    actions = (actions + _mirrored(actions)[MIRRORED_ACTIONS]) / 2
    return LandmarkHead((mean + _mirrored(mean)) / 2 + CANONICAL_LANDMARKS.mean(axis=0), actions)


def _mirrored(points: Float[np.ndarray, "*batch 68 3"]) -> Float[np.ndarray, "*batch 68 3"]:
    mirror: np.ndarray = points[..., [*MIRRORED], :] * (-1, 1, 1)
    return mirror


def _in_picture_axes(points: Float[np.ndarray, "*batch 68 3"]) -> Float[np.ndarray, "*batch 68 3"]:
    """Turn the head model's axes (metres, z up, y away from the camera) into those of `head_pose` (centimetres)."""
    return 100 * np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1).astype(np.float64)


def main() -> None:
    """Measure the head and write it."""
    head = measure()
    with atomic_write(str(HEAD_FILE)) as sink:
        np.savez_compressed(
            sink,
            points=head.points.round(_DECIMALS).astype(np.float32),
            actions=head.actions.round(_DECIMALS).astype(np.float32),
        )
    console().print(f"head: {HEAD_FILE}")


if __name__ == "__main__":
    main()
