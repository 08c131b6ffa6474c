"""Textures of clothes and background."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from pipelines.synthetic.graphics.noise import smooth_noise, smoothstep, to_linear
from pipelines.synthetic.head.person import generator
from pipelines.synthetic.render.scene import Scene

CLOTH = (128, 192)
"""Rows and columns of the clothes texture, a projection from the front."""
CLOTH_X, CLOTH_LOW, CLOTH_HIGH = 0.27, 0.41, 0.63
"""Extent of the clothes texture on the head model's template in metres: half width, lower and upper edge."""


def paint_clothes(scene: Scene) -> Float32[Tensor, "4 rows columns"]:
    """Paint the clothes: linear red, green, blue and opacity, over x and height of the template."""
    rng = generator(*scene.seed, "clothes")
    height, width = CLOTH
    x = torch.linspace(-CLOTH_X, CLOTH_X, width)[None]
    z = torch.linspace(CLOTH_HIGH, CLOTH_LOW, height)[:, None]
    side = x.abs()
    outer, inner = (to_linear(torch.from_numpy(colour))[:, None, None] for colour in scene.cloth)
    weave = 1 + 0.06 * smooth_noise(rng, CLOTH, (64, 96)) + 0.1 * smooth_noise(rng, CLOTH, (5, 8), 3)
    colour = outer.expand(3, height, width)
    if scene.pattern > 0:
        stripes = torch.sin((x if rng.random() < 0.5 else z) * 2 * np.pi / rng.uniform(0.012, 0.04))
        colour = torch.lerp(
            colour, inner.expand_as(colour), (smoothstep(0.2, 0.5, stripes) * scene.pattern).expand(height, width)
        )
    opening = {  # height of the neckline at a distance from the middle
        "crew": 0.555 + 0.055 * (side / 0.07) ** 2,
        "vest": 0.52 + 0.085 * (side / 0.085) ** 2.5,
        "v-neck": 0.515 + 0.095 * side / 0.068,
        "polo": 0.55 + 0.07 * (side / 0.05) ** 1.3,
        "shirt": 0.565 + 0.055 * (side / 0.05) ** 1.3,
        "suit": 0.6 + 0.02 * (side / 0.06) ** 2,
        "turtleneck": torch.full_like(side, 0.622),
    }[scene.clothes]
    cover = smoothstep(0.001, -0.001, z - opening)
    if scene.clothes == "suit":
        shirt = smoothstep(0.001, -0.001, side - (z - 0.452) * 0.42)
        tie = smoothstep(0.001, -0.001, side - (0.014 + 0.08 * (0.585 - z).clamp(min=0))) * smoothstep(0.588, 0.584, z)
        dark = outer * torch.from_numpy(generator(*scene.seed, "tie").uniform(0.2, 1.6, (3, 1, 1)).astype(np.float32))
        within = torch.lerp(inner.expand_as(colour), dark.clamp(max=0.9).expand_as(colour), tie.expand(height, width))
        colour = torch.lerp(colour, within, shirt)
        colour = colour * (1 - 0.4 * smoothstep(0.005, 0.0, (side - (z - 0.452) * 0.42).abs()))
    if scene.clothes in ("shirt", "polo"):
        flap = (z - (0.6 - 0.95 * side) + 0.026).abs()
        colour = colour * (1 - 0.45 * smoothstep(0.0035, 0.0, flap) * (side < 0.085))
        colour = colour * (1 - 0.3 * smoothstep(0.0025, 0.0, (x - 0.004).abs()))
    colour = colour * (1 - 0.35 * smoothstep(0.01, 0.0, (z - opening).abs()))  # the hem and its shadow
    return torch.cat([(colour * weave).clamp(0.003, 0.95), cover.expand(1, height, width)])


def paint_background(scene: Scene, size: int) -> Float32[Tensor, "3 size size"]:
    """Paint the background, blurred, in linear light."""
    rng = generator(*scene.seed, "background")
    down = torch.linspace(0, 1, size)[:, None].expand(size, size)
    right = down.T
    tone = to_linear(
        torch.from_numpy(np.clip(rng.uniform(0.08, 0.85) + rng.normal(0, 0.07, 3), 0.02, 0.95).astype(np.float32))
    )
    picture = tone[:, None, None] * (
        1 + rng.normal(0, 0.35) * (right - 0.5) + rng.normal(0, 0.35) * (down - 0.5)
    ).clamp(0.2, 2)
    kind, focus = scene.background, float(rng.uniform(0.012, 0.05))
    if kind == "studio":
        spot = torch.exp(
            -((right - rng.uniform(0.3, 0.7)) ** 2 + (down - rng.uniform(0.2, 0.6)) ** 2) / rng.uniform(0.08, 0.3)
        )
        picture = picture * (0.35 + 1.1 * spot)
    elif kind == "wall":
        picture = picture * (1 + 0.07 * smooth_noise(rng, (size, size), (6, 6), 4))
        focus *= 0.3
    elif kind == "lights":
        picture = picture * 0.25
        for _ in range(int(rng.integers(8, 30))):
            radius, glow = (
                float(rng.uniform(0.015, 0.06)),
                torch.from_numpy(rng.uniform(0.2, 1.3, 3).astype(np.float32)),
            )
            distance = torch.hypot(right - rng.random(), down - rng.random())
            picture = picture + glow[:, None, None] * smoothstep(radius, radius * 0.85, distance) * float(
                rng.uniform(0.1, 0.7)
            )
        focus *= 0.25
    elif kind in ("shelf", "window"):
        picture = _boxes(picture, rng, right, down, bright=kind == "window")
    elif kind == "garden":
        leaves = smooth_noise(rng, (size, size), (7, 7), 4)
        green = torch.tensor([0.16, 0.3, 0.07])[:, None, None] * (1 + 0.7 * leaves).clamp(0.1, 3)
        sky = smoothstep(0.5, -0.1, down + 0.14 * leaves) * float(rng.uniform(0, 1))
        picture = torch.lerp(green, torch.tensor([0.62, 0.75, 0.95])[:, None, None].expand_as(green), sky)
    else:
        patches = torch.stack([smooth_noise(rng, (size, size), (3, 4), 3) for _ in range(3)])
        picture = picture * (1 + 0.5 * patches.mean(dim=0) + 0.15 * patches).clamp(0.1, 3)
    blurred = cv2.GaussianBlur(picture.clamp(0.002, 2).permute(1, 2, 0).numpy(), (0, 0), max(focus * size, 0.5))
    return torch.from_numpy(blurred).permute(2, 0, 1)


def _boxes(picture: Tensor, rng: np.random.Generator, right: Tensor, down: Tensor, *, bright: bool) -> Tensor:
    """Paint books on shelves, or a bright window."""
    if bright:
        left, top, wide, high = (
            rng.uniform(-0.2, 0.7),
            rng.uniform(-0.2, 0.3),
            rng.uniform(0.25, 0.6),
            rng.uniform(0.4, 0.9),
        )
        pane = ((right - left - wide / 2).abs() < wide / 2) & ((down - top - high / 2).abs() < high / 2)
        bars = (((right - left) / wide * 2) % 1 < 0.06) | (((down - top) / high * 2) % 1 < 0.06)
        light = torch.tensor(rng.uniform(0.7, 1.6, 3), dtype=torch.float32)[:, None, None]
        return torch.where(pane & ~bars, light, picture * 0.7)
    shelf = float(rng.uniform(0.18, 0.35))
    for row in range(int(1 / shelf) + 1):
        at = -0.05
        while at < 1:
            wide, high = float(rng.uniform(0.02, 0.09)), float(rng.uniform(0.5, 0.95)) * shelf
            colour = torch.from_numpy(rng.uniform(0.02, 0.5, 3).astype(np.float32))[:, None, None]
            here = (
                (right >= at)
                & (right < at + wide)
                & (down > (row + 1) * shelf - high)
                & (down < (row + 1) * shelf - 0.02)
            )
            picture = torch.where(here, colour, picture)
            at += wide + float(rng.uniform(0, 0.03))
    return picture
