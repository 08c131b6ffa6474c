"""The 68 landmarks of a parametric head: points fixed to its skin, so that they are true whatever the face does.

iBUG's points have no definition in 3D. Here they lie where MediaPipe, on the mean over many heads and poses, sees them
on the skin; `find_points` repeats that, and its result is kept with the package as places on the head model's template.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from pipelines.synthetic.head_model import SKIN, HeadModel, load_head_model

_FILE = Path(__file__).parent / "data" / "landmarks.json"


def true_points(vertices: Float32[Tensor, "frames vertices 3"]) -> Float32[Tensor, "frames 68 3"]:
    """The 68 points of moved heads (`mesh.HeadMesh.move`), in metres."""
    corners, weights = _binding()
    return torch.einsum("fpcx,pc->fpx", vertices[:, corners.to(vertices.device)], weights.to(vertices.device))


@lru_cache(maxsize=1)
def _binding() -> tuple[Int64[Tensor, "68 3"], Float32[Tensor, "68 3"]]:
    return bind(load_head_model(), torch.tensor(json.loads(_FILE.read_text()), dtype=torch.float64))


def bind(
    model: HeadModel, points: Float[Tensor, "points 3"]
) -> tuple[Int64[Tensor, "points 3"], Float32[Tensor, "points 3"]]:
    """The nearest places on the skin of the template: corners of a triangle and their weights.

    The inside of the mouth is left out.
    """
    skin = model.faces[(model.parts == SKIN) & (model.cavity[model.faces].amax(dim=1) < 0.5)]
    corners = model.template[skin].double()
    found, weights = [], []
    for point in points.double():
        near = (corners.mean(dim=1) - point).norm(dim=-1).argsort()[:40]
        candidates = [_nearest_in_triangle(point, corners[index]) for index in near]
        best = min(range(len(near)), key=lambda i: float((candidates[i] @ corners[near[i]] - point).norm()))
        found.append(skin[near[best]])
        weights.append(candidates[best])
    return torch.stack(found), torch.stack(weights).float()


def _nearest_in_triangle(point: Tensor, corners: Float[Tensor, "3 3"]) -> Float[Tensor, 3]:
    """Barycentric weights of a triangle's point nearest to another."""
    a, b, c = corners
    solution = torch.linalg.lstsq(torch.stack([b - a, c - a], dim=1), (point - a)[:, None]).solution[:, 0]
    weights = torch.stack([1 - solution.sum(), *solution])
    if bool((weights >= 0).all()):
        return weights
    options = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[j] - corners[i]
        t = ((point - corners[i]) @ edge / (edge @ edge)).clamp(0, 1)
        option = torch.zeros(3, dtype=corners.dtype)
        option[i], option[j] = 1 - t, t
        options.append(option)
    return min(options, key=lambda option: float((option @ corners - point).norm()))
