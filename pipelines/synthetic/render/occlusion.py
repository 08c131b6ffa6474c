"""Light that reaches a vertex: soft shadows of the key light, and ambient occlusion."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from pipelines.synthetic.graphics import kernels
from pipelines.synthetic.graphics.rasterizer import rasterize
from pipelines.synthetic.head.head_model import LASHES, TEETH, TONGUE
from pipelines.synthetic.head.mesh import BUN, GLASSES, HAIR, HeadMesh, vertex_normals

_SIDE = 112  # pixels of a shadow map
_REACH = 0.19  # metres that a shadow map covers on either side of the head's centre
_BIAS = 0.004  # metres
_TAPS = 12


def key_light(
    mesh: HeadMesh,
    vertices: Float32[Tensor, "frames vertices 3"],
    normals: Float32[Tensor, "frames vertices 3"],
    towards: Float32[Tensor, "frames 3"],
    softness: Float32[Tensor, " frames"],
    bears: Float32[Tensor, "frames vertices"],
) -> Float32[Tensor, "frames vertices"]:
    """Return the visibility of the key light at each vertex, 0..1.

    Args:
        softness: width of the shadows' edges, metres.
        bears: 0 for hair vertices beyond the hairline, which cast no shadow.
    """
    seen, place, far = _view(vertices, towards)
    casts = (mesh.parts != LASHES) & (mesh.parts != GLASSES)
    depth = _depths(torch.cat([seen, ((1 - far * 0.5) * 0.9 * bears)[..., None]], dim=-1), mesh.faces[casts])
    probe = place + normals * 0.0015
    seen, _, far = _view(probe, towards)
    own = (1 - far * 0.5) * 0.9
    spread = softness / (2 * _REACH) * _SIDE
    tap = torch.arange(_TAPS, device=vertices.device)  # sunflower (Vogel) spiral
    radius, around = ((tap + 0.5) / _TAPS).sqrt(), tap * 2.39996
    taps = torch.stack([radius * torch.cos(around), radius * torch.sin(around)], dim=-1)
    lit = torch.empty_like(own)
    limit = own + 0.45 * _BIAS / _REACH
    kernels.launch(kernels.light_visibility, own.shape, depth, seen, limit, taps, spread, lit)
    return lit


def openness(mesh: HeadMesh) -> Float32[Tensor, " vertices"]:
    """Return the ambient openness of each vertex of the template, 0..1: cosine-weighted share of free directions."""
    head = mesh.model.template
    faces = mesh.model.faces[mesh.model.parts != LASHES]
    normals = vertex_normals(head[None], mesh.model.faces)[0]
    index = torch.arange(96, device=head.device) + 0.5
    z = 1 - 2 * index / 96
    around = index * 2.39996
    flat = (1 - z**2).sqrt()
    rays = torch.stack([flat * torch.cos(around), flat * torch.sin(around), z], dim=-1)
    seen, place, far = _view(head.expand(len(rays), -1, -1), rays)
    depth = _depths(torch.cat([seen, ((1 - far * 0.5) * 0.9)[..., None]], dim=-1), faces)
    seen, _, far = _view(place + normals * 0.002, rays)
    frames = torch.arange(len(rays), device=head.device)[:, None]
    x, y = seen.long().clamp(0, _SIDE - 1).unbind(-1)
    visible = depth[frames, y, x] < (1 - far * 0.5) * 0.9 + 0.45 * _BIAS / _REACH
    weight = (normals @ rays.T).clamp(min=0).T
    share = (visible * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-6)
    result = torch.ones(mesh.num_vertices, device=head.device)
    result[: mesh.num_head] = (0.1 + 0.9 * share) ** 0.8
    inside = mesh.model.faces[(mesh.model.parts == TEETH) | (mesh.model.parts == TONGUE)].unique()
    result[inside] = 0.6  # the template's mouth is closed; their texture darkens with depth
    result[: mesh.num_head][mesh.model.cavity > 0.5] = 0.6
    result[mesh.block[HAIR]] = 0.8
    result[mesh.block[BUN]] = 0.8
    return result


def _view(
    vertices: Float32[Tensor, "frames vertices 3"], towards: Float32[Tensor, "frames 3"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixel positions in the shadow map, the vertices, and their depth: 0 nearest to the light, 2 farthest."""
    about = torch.zeros_like(towards)
    about[:, 2] = 1.0
    about[towards[:, 2].abs() > 0.95] = torch.tensor([0.0, 1.0, 0.0], device=towards.device)
    right = functional.normalize(torch.linalg.cross(about, towards), dim=-1)
    up = torch.linalg.cross(towards, right)
    middle = vertices[:, :, :].mean(dim=1, keepdim=True)
    middle = torch.cat([middle[..., :1], middle[..., 1:2], vertices[..., 2:].amax(dim=1, keepdim=True) - 0.13], dim=-1)
    arm = vertices - middle
    x = (arm * right[:, None]).sum(-1) / _REACH
    y = (arm * up[:, None]).sum(-1) / _REACH
    far = 1 - (arm * towards[:, None]).sum(-1) / (2 * _REACH)
    return torch.stack([(x + 1) / 2 * _SIDE, (1 - y) / 2 * _SIDE], dim=-1), vertices, far.clamp(0.01, 1.99)


def _depths(corners: Float32[Tensor, "frames vertices 3"], faces: Tensor) -> Float32[Tensor, "frames side side"]:
    """Render a shadow map: nearness to the light, 0 where there is nothing."""
    found = rasterize(corners, faces, _SIDE, _SIDE)
    depth = torch.zeros(len(corners) * _SIDE * _SIDE, device=corners.device)
    depth[found.pixels] = found.inverse_depth
    return depth.reshape(len(corners), _SIDE, _SIDE)
