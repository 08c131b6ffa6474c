"""Hair: a surface over the skull that ends at the style's hairline and hangs down where the hair is long.

Its grid runs around the head (columns, from the nose to the person's left) and from the crown down (rows). Each point
is bound to the skin below it on the template, so that the hair fits every skull.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipelines.synthetic.graphics.grids import grid_faces
from pipelines.synthetic.graphics.noise import smooth_noise, smoothstep, to_linear
from pipelines.synthetic.head.head_model import SKIN, HeadModel
from pipelines.synthetic.head.person import Person, generator

ROWS, COLUMNS = 30, 49  # the last column coincides with the first
NUM_VERTICES = ROWS * COLUMNS
_TOP, _BOTTOM, _HANG = (
    0.3,
    126.0,
    97.0,
)  # degrees from the crown: first and last row, and where long hair leaves the skull
_MIDDLE = (0.0, -0.02, 0.755)  # of the skull, on the template
PICTURE = (128, 256)
"""Rows and columns of the hair texture."""
_RAYS_AT_ONCE = 147  # half a megabyte each
_RESTS_ON_SHOULDERS = 0.6  # share of the head's rotation that the ends of long hair do not follow

# The hairline in degrees from the crown, for short and long hair, at angles from the nose.
_AT = np.array([0, 28, 46, 58, 68, 80, 90, 102, 114, 180])
_EDGE = np.array([71, 70, 73, 86, 100, 101, 97, 103, 119, 124])
_LONG = np.array([71, 71, 84, 126, 130, 130, 130, 130, 130, 130])


@dataclass(frozen=True)
class Scalp:
    """Triangle corners and barycentric weights that bind the grid's points to the skin."""

    corners: Int64[Tensor, "points 3"]
    weights: Float32[Tensor, "points 3"]


def angles() -> tuple[Float32[Tensor, " rows"], Float32[Tensor, " columns"]]:
    """Return the rows' degrees from the crown and the columns' degrees around the head."""
    return torch.linspace(_TOP, _BOTTOM, ROWS), torch.linspace(-180, 180, COLUMNS)


def coordinates() -> Float32[Tensor, "points 3"]:
    """Return per point: degrees around the head, degrees from the crown, 0."""
    rows, columns = angles()
    down, around = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([around, down, torch.zeros_like(down)], dim=-1).reshape(-1, 3)


def faces() -> Int64[Tensor, "triangles 3"]:
    """Return the triangles of the grid."""
    return grid_faces(ROWS, COLUMNS)[:, [0, 2, 1]]


@lru_cache(maxsize=1)
def bind_scalp(model: HeadModel) -> Scalp:
    """Bind each point to the outermost skin on its ray from the skull's centre (Möller and Trumbore 1997)."""
    skin = model.faces[model.parts == SKIN]
    corners = model.template[skin].double()
    origin = torch.tensor(_MIDDLE, dtype=torch.float64)
    around, down, _ = torch.deg2rad(coordinates().double()).T
    rays = torch.stack(
        [torch.sin(down) * torch.sin(around), -torch.sin(down) * torch.cos(around), torch.cos(down)], dim=-1
    )
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    t = origin - corners[:, 0]
    q = torch.linalg.cross(t, first)
    # All rays start at one point, so these factors are shared.
    normals, across, depth = torch.linalg.cross(second, first), torch.linalg.cross(second, t), (second * q).sum(dim=-1)
    found, weights = [], []
    for some in rays.split(_RAYS_AT_ONCE):
        determinant = some @ normals.T
        u, v, distance = (some @ across.T) / determinant, (some @ q.T) / determinant, depth / determinant
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0) & (distance < 0.3)
        best = torch.where(hit, distance, -1.0).argmax(dim=1)
        u, v = (values.gather(1, best[:, None])[:, 0] for values in (u, v))
        found.append(skin[best])
        weights.append(torch.stack([1 - u - v, u, v], dim=-1))
    return Scalp(torch.cat(found), torch.cat(weights).float())


def hairline(person: Person) -> Float32[Tensor, " columns"]:
    """Return the hairline: degrees from the crown at which the hair ends, per column."""
    style, (_, columns) = person.hair, angles()
    at = columns.abs().numpy()
    line = np.interp(at + 10 * style.frame - 6, _AT, _LONG) if style.fall > 0.03 else np.interp(at, _AT, _EDGE)
    limit = torch.from_numpy(line.astype(np.float32))
    front = smoothstep(58.0, 30.0, columns.abs())
    limit = limit - front * math.degrees(style.hairline / 0.11)
    return limit + front * math.degrees(style.fringe / 0.12) * (
        1 + 0.6 * style.parting * torch.sin(torch.deg2rad(columns * 2))
    )


def place_hair(
    person: Person, head: Float32[Tensor, "vertices 3"], normals: Float32[Tensor, "vertices 3"], scalp: Scalp
) -> tuple[Float32[Tensor, "points 3"], Float32[Tensor, " points"]]:
    """Return the hair's points at rest, and the share of the head's rotation that each takes."""
    style, device = person.hair, head.device
    rng = generator(*person.seed, "hair")
    corners, weights = scalp.corners.to(device), scalp.weights.to(device)[..., None]
    skin = (head[corners] * weights).sum(dim=1).reshape(ROWS, COLUMNS, 3)
    out = (normals[corners] * weights).sum(dim=1).reshape(ROWS, COLUMNS, 3)
    rows, columns = angles()
    down, around = rows[:, None], columns[None]
    limit = hairline(person)[None]
    depth = smoothstep(0.0, 22.0, limit - down)  # thin at the hairline
    lumps = smooth_noise(rng, (ROWS, COLUMNS - 1), (5, 9), 2)
    lumps = torch.cat([lumps, lumps[:, :1]], dim=1) * smoothstep(0.0, 25.0, down)  # constant at the pole
    groove = 1 - 0.5 * torch.exp(
        -(((torch.deg2rad(around) * torch.sin(torch.deg2rad(down)) - 0.5 * style.parting) / 0.16) ** 2)
    ) * (around.abs() < 90)
    rim = 0.05 + min(0.25, 8 * style.fringe)
    least = 0.0015 if style.thickness > 0 else -0.004
    uneven = (0.12 + 0.22 * style.curl) * min(1.0, 0.02 / max(style.thickness, 0.02))
    full = style.thickness * (rim + (1 - rim) * depth)
    thick = least + full * groove * (1 + uneven * lumps).clamp(0.3, 2.0)
    if style.style == "side":
        thick = (
            thick
            * (1 + 0.5 * torch.sin(torch.deg2rad(around)) * style.parting)
            * (1 + 0.6 * smoothstep(80.0, 20.0, around.abs()))
        )
    points = skin + out * thick.to(device)[..., None]
    held = torch.ones(ROWS, COLUMNS)
    if style.fall > 0.03:
        hang = ((down - _HANG) / (_BOTTOM - _HANG)).clamp(min=0)
        first = int((rows < _HANG).sum()) - 1
        length = (0.055 + style.fall) * (1 + 0.06 * lumps[-1:])
        swing = 0.012 * torch.sin(torch.deg2rad(around) * 5 + lumps[first]) * hang * (1 + style.curl)
        ring = points[first : first + 1]
        outward = torch.stack(
            [torch.sin(torch.deg2rad(around)), -torch.cos(torch.deg2rad(around)), torch.zeros_like(around)], dim=-1
        )
        spread = (0.002 + 0.016 * torch.sin(hang.clamp(max=1) * 2.2) + swing)[..., None]
        falling = ring + outward.to(device) * spread.to(device)
        falling[..., 2] -= (hang * length).to(device)
        # Curl the front edge in beside the neck; otherwise the hair looks like a flat sheet.
        free = torch.from_numpy(np.interp(columns.abs().numpy() + 10 * style.frame - 6, _AT, _LONG) > 110)
        start = float(columns.abs()[free].min())
        curl = (smoothstep(start + 38.0, start, around.abs()) * (4 * hang).clamp(max=1)).to(device)
        falling[..., 0] *= 1 - 0.3 * curl
        falling[..., 1] += 0.022 * curl
        points = torch.where((hang > 0).to(device)[..., None], falling, points)
        # The ends rest on the shoulders, which do not follow the head.
        held = 1 - _RESTS_ON_SHOULDERS * hang.clamp(max=1).expand(ROWS, COLUMNS)
    points[:, -1] = points[:, 0]
    return points.reshape(-1, 3), held.reshape(-1).to(device)


def place_bun(
    person: Person, hair: Float32[Tensor, "points 3"], ball: Float32[Tensor, "vertices 3"]
) -> Float32[Tensor, "vertices 3"]:
    """Return the vertices of a bun on or behind the crown; without a bun, all at one point."""
    grid = hair.reshape(ROWS, COLUMNS, 3)
    if person.hair.style != "bun":
        return (grid[0].mean(dim=0) - torch.tensor([0.0, 0.0, 0.03], device=hair.device)).expand_as(ball)
    rng = generator(*person.seed, "bun")
    at = grid[int(rng.integers(0, 12)), 0]
    return at + ball * float(rng.uniform(0.022, 0.036)) * torch.tensor([1.0, 0.9, 0.85], device=ball.device)


def paint_hair(person: Person) -> Float32[Tensor, "5 rows columns"]:
    """Return the hair texture: linear red, green, blue, opacity, and relief of the strands.

    Rows span 0 to 130 degrees from the crown, columns once around the head.
    """
    style = person.hair
    rng = generator(*person.seed, "strands")
    height, width = PICTURE
    straight = smooth_noise(rng, PICTURE, (5, 110), 2)
    frizz = smooth_noise(rng, PICTURE, (50, 90), 2)
    strands = straight * (1 - style.curl) + frizz * style.curl
    tufts = smooth_noise(rng, PICTURE, (3, 24), 2)
    colour = to_linear(torch.from_numpy(style.colour))[:, None, None]
    shade = (1 + 0.28 * strands + 0.16 * tufts).clamp(0.25, 2.2)
    grey = (smooth_noise(rng, PICTURE, (4, 128)) > 1.2 - 0.8 * style.grey).float() * 0.35 * style.grey
    colour = (colour * shade * (1 - grey) + 0.45 * grey).clamp(0.003, 0.9)
    limit = torch.from_numpy(
        np.interp(np.linspace(-180, 180, width), angles()[1].numpy(), hairline(person).numpy()).astype(np.float32)
    )
    down = (torch.arange(height) + 0.5)[:, None] * (130 / height)
    ragged = 2.2 * strands + (3.5 + 2 * style.curl) * tufts
    cover = smoothstep(4.0, -4.0, down + ragged - limit[None])
    if style.style == "bald":
        crown = float(rng.uniform(62, 92)) if rng.random() < 0.6 else 200.0
        cover = cover * smoothstep(-8.0, 8.0, down + 3 * tufts - crown) * 0.75 * (1 + 0.3 * strands).clamp(0, 1)
    elif style.style == "buzz":
        cover = cover * (0.72 + 0.1 * strands).clamp(0, 1)
    return torch.cat([colour, cover[None], strands[None]])
