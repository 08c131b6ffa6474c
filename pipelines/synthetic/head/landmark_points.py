"""The 68 landmarks of the head model: points bound to its skin, so that they follow every shape and expression.

iBUG's points have no definition in 3D. Here they are the mean positions, over many heads and poses, at which MediaPipe
finds them on the skin: see `corpus.fit_landmark_points`, whose result is stored as points on the template.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from pipelines.synthetic.head.head_model import SKIN, HeadModel, load_head_model

POINTS_FILE = Path(__file__).parent / "data" / "landmarks.json"
_CANDIDATES = 40  # triangles with the nearest centroids
_SAME_DISTANCE = 1e-9  # metres


def true_points(vertices: Float32[Tensor, "frames vertices 3"]) -> Float32[Tensor, "frames 68 3"]:
    """Return the 68 points of posed heads (`mesh.HeadMesh.move`), in metres."""
    corners, weights = _binding()
    return torch.einsum("fpcx,pc->fpx", vertices[:, corners.to(vertices.device)], weights.to(vertices.device))


@lru_cache(maxsize=1)
def _binding() -> tuple[Int64[Tensor, "68 3"], Float32[Tensor, "68 3"]]:
    return bind(load_head_model(), torch.tensor(json.loads(POINTS_FILE.read_text()), dtype=torch.float64))


def bind(
    model: HeadModel, points: Float[Tensor, "points 3"]
) -> tuple[Int64[Tensor, "points 3"], Float32[Tensor, "points 3"]]:
    """Find the nearest points on the template's skin, as triangle corners and barycentric weights.

    The inside of the mouth is excluded.
    """
    skin = model.faces[(model.parts == SKIN) & (model.cavity[model.faces].amax(dim=1) < 0.5)]
    triangles, weights = nearest_in_triangles(points.double(), model.template[skin].double())
    return skin[triangles], weights.float()


def nearest_in_triangles(
    points: Float64[Tensor, "points 3"], corners: Float64[Tensor, "triangles 3 3"]
) -> tuple[Int64[Tensor, " points"], Float64[Tensor, "points 3"]]:
    """Find the nearest triangle of each point and the barycentric weights of the nearest point on it (Ericson,
    Real-Time Collision Detection, 5.1.5).

    Among triangles whose distances differ by less than `_SAME_DISTANCE`, as for a point on the symmetry plane, the
    first is taken, so that rounding does not decide.
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
