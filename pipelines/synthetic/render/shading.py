"""Light on a head: skin, eyes, teeth, cloth and hair, in linear light.

Local models only: diffuse light wrapped round the edge per colour (blood scatters red furthest), Blinn-Phong and
Kajiya-Kay highlights, and a hemisphere of ambient light. Skin and cloth are lit per vertex, a few millimetres apart,
which is ten times cheaper than per pixel; relief smaller than that enters through the light's change with the slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipelines.synthetic.graphics import kernels
from pipelines.synthetic.graphics.noise import smoothstep
from pipelines.synthetic.render import light_kernels

_WRAP = (0.38, 0.2, 0.14)  # how far light of each colour reaches round an edge of skin


@dataclass(frozen=True)
class Lights:
    """Light of each frame."""

    towards: Float32[Tensor, "frames 3 3"]
    colours: Float32[Tensor, "frames 3 3"]
    sky: Float32[Tensor, "frames 3"]
    ground: Float32[Tensor, "frames 3"]


@dataclass(frozen=True)
class Surface:
    """Points of surfaces: vertices or fragments."""

    frame: Int64[Tensor, " points"]
    normal: Float32[Tensor, "points 3"]
    view: Float32[Tensor, "points 3"]  # unit, towards the camera
    lit: Float32[Tensor, " points"]  # by the key light, 0..1
    open: Float32[Tensor, " points"]  # to ambient light, 0..1


def illuminate(
    surface: Surface, lights: Lights, sharpness: float, *, wrap: bool = True
) -> tuple[Float32[Tensor, "points 3"], Float32[Tensor, "points 3"], Float32[Tensor, "points 2"]]:
    """Light to be multiplied by albedo, light to be multiplied by gloss, and relief.

    Relief is how much the first changes, as a share, per slope of the surface to the left and upwards.

    Args:
        sharpness: exponent of the highlights.
        wrap: let light reach round edges, as skin does.
    """
    reach = torch.tensor(_WRAP if wrap else (0.0, 0.0, 0.0), device=surface.normal.device)
    result = torch.empty(len(surface.frame), 8, device=reach.device)
    kernels.launch(light_kernels.illuminate, len(result), *_seen(surface, lights), sharpness, reach, result)
    diffuse, highlight, relief = result.split([3, 3, 2], dim=1)
    return diffuse, highlight, relief


def shade_hair(
    surface: Surface,
    lights: Lights,
    albedo: Float32[Tensor, "points 3"],
    strands: Float32[Tensor, " points"],
) -> Float32[Tensor, "points 3"]:
    """Reflected light of strands that run down the head (Kajiya and Kay 1989)."""
    result = torch.empty(len(albedo), 3, device=albedo.device)
    kernels.launch(
        light_kernels.shade_hair,
        len(result),
        *_seen(surface, lights),
        albedo.contiguous(),
        strands.contiguous(),
        result,
    )
    return result


def _seen(surface: Surface, lights: Lights) -> list[Tensor]:
    """The arguments that both kernels begin with."""
    return [value.contiguous() for value in (*vars(surface).values(), *vars(lights).values())]


def paint_eye(direction: Float32[Tensor, "points 3"], iris: Float32[Tensor, "points 3"]) -> Float32[Tensor, "points 3"]:
    """Albedo of an eyeball by the direction from its middle; the pupil looks along -y."""
    around = torch.atan2(direction[:, 2], direction[:, 0])
    angle = torch.arccos((-direction[:, 1]).clamp(-1, 1))
    fibres = 1 + 0.22 * torch.sin(around * 23 + 3 * torch.sin(around * 7)) * smoothstep(0.14, 0.3, angle)
    ring = 1 - 0.75 * smoothstep(0.36, 0.44, angle)
    coloured = iris * (fibres * ring * (0.75 + 1.3 * angle))[:, None]
    coloured = coloured * smoothstep(0.13, 0.17, angle)[:, None] + 0.004
    vessels = 0.1 + 0.5 * smoothstep(0.7, 1.25, angle)
    white = torch.tensor([0.6, 0.57, 0.54], device=iris.device) * (
        1 - vessels[:, None] * torch.tensor([0.1, 0.35, 0.35], device=iris.device)
    )
    return torch.lerp(coloured, white, smoothstep(0.41, 0.47, angle)[:, None])
