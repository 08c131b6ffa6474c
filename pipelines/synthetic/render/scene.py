"""The scene of one video: lights, clothes, background, camera and sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pipelines.synthetic.head.person import generator

BACKGROUNDS = ("wall", "studio", "lights", "shelf", "window", "garden", "blotches")
"""Kinds of background."""
CLOTHES = ("crew", "v-neck", "shirt", "suit", "polo", "turtleneck", "vest")
"""Kinds of clothes."""


@dataclass(frozen=True)
class Light:
    """A directional light."""

    towards: Float32[np.ndarray, 3]  # unit vector from the head to the light, in the head model's axes
    colour: Float32[np.ndarray, 3]  # linear


@dataclass(frozen=True)
class Scene:
    """The scene of one video of one person. Colours are linear unless noted."""

    seed: tuple[int, int, int]
    lights: tuple[Light, ...]
    """Key light, which casts shadows, fill light and rim light."""
    sky: Float32[np.ndarray, 3]
    ground: Float32[np.ndarray, 3]
    softness: float
    """Width of the shadows' edges in centimetres."""
    clothes: str
    cloth: Float32[np.ndarray, "2 3"]
    """Colours of the outer and the inner cloth, sRGB."""
    pattern: float
    background: str
    distance: float
    """FrameRenderer to head, metres."""
    head: float
    """Height of the head as a share of the picture's height."""
    centre: Float32[np.ndarray, 2]
    """Position of the head's centre as a share of the picture: right, down."""
    exposure: float
    contrast: float
    saturation: float
    blur: float
    """Standard deviation of the lens blur in pixels at a picture size of 256."""
    grain: float
    """Standard deviation of the sensor noise as a share of full scale."""
    vignette: float
    crf: int
    """H.264 constant rate factor: 18 is good, 30 is poor."""

    @classmethod
    def draw(cls, seed: int, identity: int, video: int) -> Scene:
        """Draw a scene: a pure function of the three numbers."""
        rng = generator(seed, identity, video, "scene")
        warmth = rng.normal(0, 0.1)
        key = Light(_towards(rng, 75.0, (0.0, 55.0)), _tint(warmth) * rng.uniform(1.1, 2.1))
        fill = Light(_towards(rng, 80.0, (-10.0, 35.0)), _tint(-warmth + rng.normal(0, 0.08)) * rng.uniform(0.1, 0.8))
        rim = Light(
            _towards(rng, 180.0, (10.0, 50.0), behind=True),
            _tint(rng.normal(0, 0.2)) * float(rng.choice([0.0, 1.4]) * rng.random()),
        )
        return cls(
            seed=(seed, identity, video),
            lights=(key, fill, rim),
            sky=(_tint(rng.normal(0, 0.1)) * rng.uniform(0.3, 0.75)).astype(np.float32),
            ground=(_tint(rng.normal(0.1, 0.1)) * rng.uniform(0.12, 0.45)).astype(np.float32),
            softness=float(rng.uniform(0.4, 1.6)),
            clothes=str(rng.choice(CLOTHES)),
            cloth=_cloth(rng),
            pattern=float(rng.choice([0.0, 1.0], p=[0.6, 0.4]) * rng.random()),
            background=str(rng.choice(BACKGROUNDS)),
            distance=float(np.exp(rng.uniform(np.log(0.55), np.log(2.2)))),
            head=float(rng.uniform(0.55, 0.7)),
            centre=np.array([rng.uniform(0.45, 0.55), rng.uniform(0.43, 0.5)], np.float32),
            exposure=float(np.exp(rng.normal(0, 0.14))),
            contrast=float(rng.uniform(0.9, 1.15)),
            saturation=float(rng.uniform(0.8, 1.15)),
            blur=float(rng.uniform(0.25, 0.8)),
            grain=float(rng.exponential(0.004)),
            vignette=float(rng.uniform(0, 0.35)),
            crf=int(rng.integers(17, 28)),
        )


def _towards(
    rng: np.random.Generator, spread: float, height: tuple[float, float], *, behind: bool = False
) -> np.ndarray:
    around = np.radians(rng.uniform(120, 170) * rng.choice([-1, 1]) if behind else rng.uniform(-spread, spread))
    up = np.radians(rng.uniform(*height))
    vector = [np.sin(around) * np.cos(up), -np.cos(around) * np.cos(up), np.sin(up)]
    return np.array(vector, np.float32)


def _tint(warmth: float) -> np.ndarray:
    warmth = float(np.clip(warmth, -0.35, 0.35))
    return np.array([1 + 0.6 * warmth, 1.0, 1 - 0.9 * warmth], np.float32)


def _cloth(rng: np.random.Generator) -> np.ndarray:
    grey, vivid = rng.uniform(0.06, 0.85), rng.uniform(0, 0.7) * (rng.random() < 0.7)
    outer = np.clip(grey * (1 + vivid * rng.uniform(-1, 1, 3)), 0.03, 0.95)
    inner = np.clip(rng.choice([0.9, 0.7, 0.25]) * (1 + 0.2 * rng.uniform(-1, 1, 3)), 0.03, 0.95)
    return np.stack([outer, inner]).astype(np.float32)
