"""Shading of skin, eyes, teeth, cloth and hair, in linear light.

Local models only: wrapped diffuse light per colour (skin scatters red furthest), Blinn-Phong and Kajiya-Kay highlights,
and hemispheric ambient light. Skin and cloth are lit per vertex, a few millimetres apart, which takes a tenth of the
time of lighting per pixel; finer relief is added through the derivative of light with respect to slope.
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
    """Lights of each frame."""

    towards: Float32[Tensor, "frames 3 3"]
    colours: Float32[Tensor, "frames 3 3"]
    sky: Float32[Tensor, "frames 3"]
    ground: Float32[Tensor, "frames 3"]


@dataclass(frozen=True)
class Surface:
    """Surface points: vertices or fragments."""

    frame: Int64[Tensor, " points"]
    normal: Float32[Tensor, "points 3"]
    view: Float32[Tensor, "points 3"]  # unit, towards the camera
    lit: Float32[Tensor, " points"]  # by the key light, 0..1
    open: Float32[Tensor, " points"]  # to ambient light, 0..1


def illuminate(
    surface: Surface, lights: Lights, sharpness: float, *, wrap: bool = True
) -> tuple[Float32[Tensor, "points 3"], Float32[Tensor, "points 3"], Float32[Tensor, "points 2"]]:
    """Return diffuse light (to multiply by albedo), highlights (to multiply by gloss), and relief.

    Relief is the relative change of diffuse light per slope of the surface to the left and upwards.

    Args:
        sharpness: exponent of the highlights.
        wrap: let light reach past the terminator, as in skin.
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
    """Return the light reflected by strands that run down the head (Kajiya and Kay 1989)."""
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
    """Return the arguments that both kernels share."""
    return [value.contiguous() for value in (*vars(surface).values(), *vars(lights).values())]


def paint_eye(direction: Float32[Tensor, "points 3"], iris: Float32[Tensor, "points 3"]) -> Float32[Tensor, "points 3"]:
    """Return the albedo of an eyeball by the direction from its centre; the pupil points along -y."""
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
