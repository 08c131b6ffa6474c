"""Glasses: wire frames of two rims, a bridge and two temples, fitted to a head."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional

from pipelines.synthetic.graphics.grids import grid_faces
from pipelines.synthetic.head.person import Person

_RIM, _WIRE = 24, 5  # points around a lens, vertices around a wire
NUM_VERTICES = 2 * _RIM * _WIRE + 3 * 2 * _WIRE  # two rims, a bridge and two temples


def faces() -> Int64[Tensor, "triangles 3"]:
    """Return the triangles of both rims, the bridge and the temples."""
    rim, straight = grid_faces(_RIM, _WIRE, closed=True, ring=True), grid_faces(2, _WIRE, closed=True)
    triangles, start = [], 0
    for wire, rows in ((rim, _RIM), (rim, _RIM), *[(straight, 2)] * 3):
        triangles.append(wire + start)
        start += rows * _WIRE
    return torch.cat(triangles)


def wires(
    person: Person,
    eyes: Float32[Tensor, "2 4"],
    head: Float32[Tensor, "vertices 3"],
    template: Float32[Tensor, "vertices 3"],
) -> Float32[Tensor, "wires 3"]:
    """Return the vertices of a person's glasses; without glasses, all at one point inside the head."""
    middle = eyes[:, :3].mean(dim=0)
    if person.glasses <= 0:
        return (middle + torch.tensor([0.0, 0.06, 0.0], device=eyes.device)).expand(NUM_VERTICES, 3)
    front = float(head[:, 1][(template[:, 2] - 0.7284).abs() < 0.006].amin()) - 0.004  # the nose's bridge
    height, round_ = person.glasses / 2, person.glasses_round
    half = float((eyes[0, 0] - eyes[1, 0]) / 2) * 0.8
    around = torch.arange(_RIM, device=eyes.device) * (2 * math.pi / _RIM)
    power = 0.55 + 0.45 * round_
    shape = torch.stack([torch.cos(around), torch.sin(around)], dim=-1)
    shape = shape.sign() * shape.abs() ** power
    width = half * (1 - round_) + max(height, half * 0.8) * round_
    curves = []
    for eye in eyes:
        x = eye[0] + shape[:, 0] * width
        z = eye[2] - 0.003 + shape[:, 1] * height
        y = front + 2.2 * (x - middle[0]) ** 2
        curves.append(torch.stack([x, y, z], dim=-1))
    radius = 0.0011 + 0.0009 * (1 - round_)
    tubes = [_tube(curve, radius, closed=True) for curve in curves]
    inner = [curves[0][_RIM // 2], curves[1][0]]
    ears = [curve.clone() for curve in (curves[0][0], curves[1][_RIM // 2])]
    widest = float(head[:, 0][(template[:, 2] - 0.74).abs() < 0.01].abs().amax())
    ends = [
        torch.stack([middle[0] + side * widest * 0.93, middle[1] + 0.09, ear[2] + 0.004])
        for side, ear in zip((1, -1), ears, strict=True)
    ]
    straight = [torch.stack(inner), torch.stack([ears[0], ends[0]]), torch.stack([ears[1], ends[1]])]
    return torch.cat([*tubes, *(_tube(line, radius, closed=False) for line in straight)])


def _tube(curve: Float32[Tensor, "points 3"], radius: float, *, closed: bool) -> Float32[Tensor, "vertices 3"]:
    """Return the vertices of a tube around a curve, `_WIRE` per point."""
    ahead = curve.roll(-1, 0) - curve.roll(1, 0) if closed else (curve[-1:] - curve[:1]).expand_as(curve)
    ahead = functional.normalize(ahead, dim=-1)
    up = functional.normalize(
        torch.linalg.cross(ahead, torch.tensor([[0.05, 1.0, 0.08]], device=curve.device).expand_as(ahead)), dim=-1
    )
    side = torch.linalg.cross(ahead, up)
    around = torch.arange(_WIRE, device=curve.device) * (2 * math.pi / _WIRE)
    offset: Tensor = up[:, None] * torch.cos(around)[:, None] + side[:, None] * torch.sin(around)[:, None]
    return (curve[:, None] + radius * offset).reshape(-1, 3)
