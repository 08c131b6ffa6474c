"""A batch of people in scenes, ready to render: textures, heads at rest, lights and camera as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipelines.synthetic.graphics.noise import to_linear
from pipelines.synthetic.head import hair
from pipelines.synthetic.head.mesh import HAIR, HeadMesh, Rest
from pipelines.synthetic.head.person import Person
from pipelines.synthetic.head.skin import paint_skin
from pipelines.synthetic.render.background import paint_background, paint_clothes
from pipelines.synthetic.render.scene import Scene
from pipelines.synthetic.render.shading import Lights


@dataclass(frozen=True)
class SceneBatch:
    """Textures of pairs of person and scene, and the parameters of each frame. A frame shows the pair `row`."""

    row: Int64[Tensor, " frames"]  # index of the pair
    skin: Float32[Tensor, "pairs skin_height skin_width 6"]
    cloth: Float32[Tensor, "pairs cloth_height cloth_width 4"]
    hair: Float32[Tensor, "pairs hair_height hair_width 5"]
    backgrounds: Float32[Tensor, "pairs size size 3"]
    rest: Rest
    lights: Lights
    irises: Float32[Tensor, "frames 3"]
    glasses: Float32[Tensor, "frames 3"]
    lashes: Float32[Tensor, " frames"]
    bears: Float32[Tensor, "frames vertices"]  # 0 for hair vertices beyond the hairline, which are not drawn
    softness: Float32[Tensor, " frames"]
    camera: Float32[Tensor, "frames 4"]  # distance, head's height, right, down
    sensor: Float32[Tensor, "frames 6"]  # exposure, contrast, saturation, blur, grain, vignette

    def select(self, row: Int64[Tensor, " frames"]) -> SceneBatch:
        """Return a batch with one frame for each pair in `row`."""
        pictures = {name: getattr(self, name) for name in ("skin", "cloth", "hair", "backgrounds")}
        numbers = ("irises", "glasses", "lashes", "bears", "softness", "camera", "sensor")
        lights = Lights(**{name: value[row] for name, value in vars(self.lights).items()})
        return SceneBatch(
            row, **pictures, rest=self.rest[row], lights=lights, **{name: getattr(self, name)[row] for name in numbers}
        )

    @classmethod
    def create(cls, people: Sequence[Person], scenes: Sequence[Scene], mesh: HeadMesh, size: int) -> SceneBatch:
        """Paint the textures of each person and scene, and put the heads together: one frame for each pair.

        Args:
            size: side of the rendered picture in pixels.
        """
        device = mesh.device

        def rows(values: Sequence[object]) -> Tensor:
            return torch.from_numpy(np.array(values, np.float32)).to(device)

        def pictures(values: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(values)).permute(0, 2, 3, 1).contiguous().to(device)

        lights = Lights(
            rows([[light.towards for light in scene.lights] for scene in scenes]),
            rows([[light.colour for light in scene.lights] for scene in scenes]),
            rows([scene.sky for scene in scenes]),
            rows([scene.ground for scene in scenes]),
        )
        bears = torch.ones(len(people), mesh.num_vertices)
        down = hair.coordinates()[:, 1].reshape(hair.ROWS, hair.COLUMNS)
        for row, person in enumerate(people):
            worn = (down < hair.hairline(person) + 3) & (person.hair.style != "bald")
            bears[row, mesh.block[HAIR]] = worn.reshape(-1).float()
        return cls(
            torch.arange(len(people), device=device),
            pictures([paint_skin(person) for person in people]),
            pictures([paint_clothes(scene) for scene in scenes]),
            pictures([hair.paint_hair(person) for person in people]),
            pictures([paint_background(scene, size) for scene in scenes]),
            mesh.rest(people),
            lights,
            to_linear(rows([person.iris for person in people])),
            to_linear(rows([person.glasses_colour for person in people])),
            rows([person.skin.lashes for person in people]),
            bears.to(device),
            rows([scene.softness / 100 for scene in scenes]),
            rows([(scene.distance, scene.head, *scene.centre) for scene in scenes]),
            rows([(s.exposure, s.contrast, s.saturation, s.blur, s.grain, s.vignette) for s in scenes]),
        )
