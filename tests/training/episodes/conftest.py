"""Synthetic people drawn as flat cartoons, in place of the renderer."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from training.config import SyntheticConfig, TrainConfig
from training.episodes.online import SyntheticPeople

MakeTrain = Callable[..., TrainConfig]


@dataclasses.dataclass(frozen=True)
class Motion:
    fps: float
    yaw: np.ndarray
    number: np.ndarray
    """Of the frame in the whole motion."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    images: torch.Tensor
    points: torch.Tensor


class Cartoons:
    """Renders a face whose shade is the person's, whose place is the scene's."""

    def __init__(self, size: int, draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> None:
        self.size, self.draw, self.face = size, draw, face
        self.asked: list[tuple[Any, Any, Motion]] = []

    def frames(self, people: Sequence[int], scenes: Sequence[float], motions: Sequence[Motion]) -> Pictures:
        triples = [*zip(people, scenes, motions, strict=True)]
        self.asked += triples
        side = self.size
        points = [self.face(side * 0.4, side / 2 + place, side / 2, yaw=float(m.yaw[0])) for _, place, m in triples]
        images = [self.draw(each, side, side, shade) for each, (shade, _, _) in zip(points, triples, strict=True)]
        return Pictures(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(points)))


class FakePeople:
    """People whose renderer draws cartoons, with a record of who was drawn."""

    def __init__(self, draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> None:
        self.renderers: list[Cartoons] = []
        self.drawn: list[tuple[int, int]] = []

        def renderer(size: int, device: str, at_once: int) -> Cartoons:
            self.renderers.append(Cartoons(size, draw, face))
            return self.renderers[-1]

        def person(seed: int, identity: int) -> int:
            self.drawn.append((seed, identity))
            return int(np.random.default_rng((seed, identity)).integers(100, 240))

        self.people = SyntheticPeople(person, self._scene, self._motion, renderer, "e" * 64)

    @staticmethod
    def _scene(seed: int, identity: int, video: int) -> float:
        return float(np.random.default_rng((seed, identity, video)).normal())

    @staticmethod
    def _motion(random: np.random.Generator, num_frames: int, fps: float) -> Motion:
        return Motion(fps, 12 * random.standard_normal(num_frames), np.arange(num_frames))


@pytest.fixture
def fake_people(draw: Callable[..., np.ndarray], face: Callable[..., np.ndarray]) -> FakePeople:
    return FakePeople(draw, face)


@pytest.fixture
def online_config(tiny_train: MakeTrain) -> TrainConfig:
    return tiny_train(warp_prior=True, online=SyntheticConfig(5, seconds=6.0, reuse=1))
