"""A camera that draws no person: a square on a ground whose colour says who and where. Workers can import it."""

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


class MovingSquare:
    """The ground's red says the identity, its green the scene; the square is where yaw and pitch put it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def film(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        for start in range(0, len(motion), 8):
            angles = torch.from_numpy(motion.angles[start : start + 8])
            middle = self.size / 2 + angles[:, :2] * self.size / 100
            images = torch.zeros(len(angles), self.size, self.size, 3, dtype=torch.uint8)
            images[..., 0] = 20 * (scene.seed[1] % 10)
            images[..., 1] = 40 * (scene.seed[2] % 5)
            for image, (x, y) in zip(images, middle.int().tolist(), strict=True):
                image[y - 5 : y + 5, x - 5 : x + 5] = 255
            yield Frames(images, middle[:, None].expand(-1, 68, -1).contiguous())


class BrokenCamera(MovingSquare):
    """Fails in the middle of its third clip."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.clips = 0

    def film(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        self.clips += 1
        for frames in super().film(person, scene, motion):
            yield frames
            if self.clips == 3:
                raise OSError(28, "No space left on device", "clip.mp4")


class DyingCamera(MovingSquare):
    """Takes its process along, as a lack of memory does."""

    def film(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        os._exit(9)
        yield from super().film(person, scene, motion)


class SlowCamera(MovingSquare):
    """Films the first clips at once; then says so and takes its time over each frame."""

    def film(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Frames]:
        for frames in super().film(person, scene, motion):
            yield frames
            if scene.seed[1] > 2:
                Path(os.environ["SLOW_CAMERA_SAYS"]).touch()
                time.sleep(60)
