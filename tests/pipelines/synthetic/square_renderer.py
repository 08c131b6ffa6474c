"""A stub renderer: a square on a background whose colour encodes identity and scene. Workers can import it."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.synthetic.head.person import Person
from pipelines.synthetic.motion.motion import Motion
from pipelines.synthetic.render.scene import Scene


@dataclass(frozen=True)
class Frames:
    images: torch.Tensor
    points: torch.Tensor


class SquareRenderer:
    """The background's red encodes the identity, its green the scene; yaw and pitch place the square."""

    def __init__(self, size: int) -> None:
        self.size = size

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        for start in range(0, len(motion), 8):
            angles = torch.from_numpy(motion.angles[start : start + 8])
            middle = self.size / 2 + angles[:, :2] * self.size / 100
            images = torch.zeros(len(angles), self.size, self.size, 3, dtype=torch.uint8)
            images[..., 0] = 20 * (scene.seed[1] % 10)
            images[..., 1] = 40 * (scene.seed[2] % 5)
            for image, (x, y) in zip(images, middle.int().tolist(), strict=True):
                image[y - 5 : y + 5, x - 5 : x + 5] = 255
            yield Frames(images, middle[:, None].expand(-1, 68, -1).contiguous())


class FailingRenderer(SquareRenderer):
    """Fails in the middle of its third clip."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.clips = 0

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        self.clips += 1
        for frames in super().render_clip(person, scene, motion):
            yield frames
            if self.clips == 3:
                raise OSError(28, "No space left on device", "clip.mp4")


class DyingRenderer(SquareRenderer):
    """Kills its process, as the kernel does when memory runs out."""

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        os._exit(9)
        yield from super().render_clip(person, scene, motion)


class SlowRenderer(SquareRenderer):
    """Renders the first two people quickly, then touches a marker file and takes a minute per frame."""

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        for frames in super().render_clip(person, scene, motion):
            yield frames
            if scene.seed[1] > 2:
                Path(os.environ["SLOW_RENDERER_MARKER"]).touch()
                time.sleep(60)
