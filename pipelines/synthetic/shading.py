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
from torch.nn import functional

from pipelines.synthetic.noise import smoothstep

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
    up = surface.normal[:, 2:] * 0.5 + 0.5
    ambient = torch.lerp(lights.ground[surface.frame], lights.sky[surface.frame], up)
    total = ambient * surface.open[:, None]
    facing = (surface.normal * surface.view).sum(dim=-1).clamp(0, 1)
    highlight = ambient * (0.25 * (1 - facing) ** 4 * surface.open)[:, None]
    reach = torch.tensor(_WRAP if wrap else (0.0, 0.0, 0.0), device=total.device)
    key = torch.zeros_like(total)
    for light in range(lights.towards.shape[1]):
        towards, colour = lights.towards[surface.frame, light], lights.colours[surface.frame, light]
        cosine = (surface.normal * towards).sum(dim=-1)
        shadow = surface.lit if light == 0 else surface.open
        total = total + colour * ((cosine[:, None] + reach) / (1 + reach) ** 2).clamp(min=0) * shadow[:, None]
        if light == 0:
            key = towards * (colour.mean(dim=-1) * shadow)[:, None]
        if light < 2:
            half = functional.normalize(towards + surface.view, dim=-1)
            peak = (surface.normal * half).sum(dim=-1).clamp(0, 1) ** sharpness
            highlight = highlight + colour * (peak * shadow * (cosine > 0))[:, None]
    left = functional.normalize(
        torch.stack([-surface.normal[:, 1], surface.normal[:, 0], torch.zeros_like(facing)], dim=-1), dim=-1
    )
    upwards = torch.linalg.cross(left, surface.normal)
    slopes = torch.stack([(key * left).sum(dim=-1), (key * upwards).sum(dim=-1)], dim=-1)
    return total, highlight, slopes / total.mean(dim=-1, keepdim=True).clamp(min=0.05)


def shade_hair(
    surface: Surface,
    lights: Lights,
    albedo: Float32[Tensor, "points 3"],
    strands: Float32[Tensor, " points"],
) -> Float32[Tensor, "points 3"]:
    """Reflected light of strands that run down the head (Kajiya and Kay 1989)."""
    down = torch.tensor([0.0, 0.0, -1.0], device=albedo.device)
    along = down - surface.normal * (surface.normal @ down)[:, None]
    along = functional.normalize(along + 0.06 * strands[:, None] * surface.normal, dim=-1)
    up = surface.normal[:, 2:] * 0.5 + 0.5
    total = torch.lerp(lights.ground[surface.frame], lights.sky[surface.frame], up) * surface.open[:, None]
    highlight = torch.zeros_like(albedo)
    for light in range(lights.towards.shape[1]):
        towards, colour = lights.towards[surface.frame, light], lights.colours[surface.frame, light]
        cosine = (surface.normal * towards).sum(dim=-1)
        shadow = surface.lit if light == 0 else surface.open
        across = (1 - (along * towards).sum(dim=-1) ** 2).clamp(min=0).sqrt()
        total = total + colour * (across * ((cosine + 0.3) / 1.3).clamp(min=0) * shadow)[:, None]
        half = functional.normalize(towards + surface.view, dim=-1)
        peak = (1 - (along * half).sum(dim=-1) ** 2).clamp(min=0) ** 30
        highlight = highlight + colour * (peak * shadow * ((cosine + 0.2) / 1.2).clamp(0, 1))[:, None]
    return albedo * total * 0.85 + (0.25 * albedo + 0.025) * highlight


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


def paint_mouth(template: Float32[Tensor, "points 4"], *, teeth: bool) -> Float32[Tensor, "points 3"]:
    """Albedo of teeth with gums, or of what lies behind them, darker the further back."""
    x, y, z, _ = template.unbind(-1)
    deep = torch.exp(-(y + 0.146).clamp(min=0) * 30)[:, None]
    if not teeth:
        return torch.tensor([0.42, 0.13, 0.12], device=x.device) * deep.clamp(min=0.03)
    gap = ((x / 0.0072) % 1 - 0.5).abs()
    white = torch.tensor([0.74, 0.69, 0.58], device=x.device) * (1 - 0.45 * smoothstep(0.42, 0.5, gap))[:, None]
    gum = torch.maximum(smoothstep(0.6745, 0.6765, z), smoothstep(0.6515, 0.6495, z))
    gum = gum[:, None] * torch.ones(3, device=x.device)
    return torch.lerp(white, torch.tensor([0.5, 0.2, 0.18], device=x.device).expand_as(white), gum) * deep
