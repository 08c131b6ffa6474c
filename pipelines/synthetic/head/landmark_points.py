"""The 68 landmarks of a parametric head: points fixed to its skin, so that they are true whatever the face does.

iBUG's points have no definition in 3D. Here they lie where MediaPipe, on the mean over many heads and poses, sees them
on the skin; `find_points` repeats that, and its result is kept with the package as places on the head model's template.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from pipelines.synthetic.head.head_model import SKIN, HeadModel, load_head_model

_FILE = Path(__file__).parent / "data" / "landmarks.json"
_CANDIDATES = 40  # triangles whose middles are nearest
_SAME_DISTANCE = 1e-9  # metres


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
    triangles, weights = nearest_in_triangles(points.double(), model.template[skin].double())
    return skin[triangles], weights.float()


def nearest_in_triangles(
    points: Float64[Tensor, "points 3"], corners: Float64[Tensor, "triangles 3 3"]
) -> tuple[Int64[Tensor, " points"], Float64[Tensor, "points 3"]]:
    """The triangle nearest to each point, and the weights of its corners at its nearest place (Ericson, Real-Time
    Collision Detection, 5.1.5).

    Of those equally near, as a face's two halves are to a point between them, the first: rounding must not choose.
    """
    apart = (corners.mean(dim=1) - points[:, None]).norm(dim=-1)
    near = apart.topk(min(_CANDIDATES, len(corners)), largest=False).indices.sort().values
    a, b, c = corners[near].unbind(dim=-2)
    first, second, there = b - a, c - a, points[:, None] - a
    ff, fs, ss, ft, st = (
        (x * y).sum(dim=-1)
        for x, y in ((first, first), (first, second), (second, second), (first, there), (second, there))
    )
    determinant = ff * ss - fs**2
    v, w = (ss * ft - fs * st) / determinant, (ff * st - fs * ft) / determinant
    inside = torch.stack([1 - v - w, v, w], dim=-1)
    options = [torch.where((inside >= 0).all(dim=-1, keepdim=True), inside, torch.nan)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[near][..., i, :], corners[near][..., j, :]
        along = end - start
        share = (((points[:, None] - start) * along).sum(dim=-1) / (along**2).sum(dim=-1)).clamp(0, 1)
        option = torch.zeros_like(inside)
        option[..., i], option[..., j] = 1 - share, share
        options.append(option)
    weights = torch.stack(options, dim=2)
    distance = ((weights[..., None] * corners[near][:, :, None]).sum(dim=-2) - points[:, None, None]).norm(dim=-1)
    steps = (distance.nan_to_num(nan=torch.inf) / _SAME_DISTANCE).round()
    best = steps.flatten(1).argmin(dim=1)
    row = torch.arange(len(points))
    return near[row, best // len(options)], weights.flatten(1, 2)[row, best]
