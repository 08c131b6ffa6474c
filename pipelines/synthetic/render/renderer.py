"""People in scenes, filmed: pictures and their true landmarks, in batches, on CPU or GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from pipelines.synthetic.graphics import kernels
from pipelines.synthetic.graphics.noise import smoothstep, to_linear
from pipelines.synthetic.graphics.rasterizer import Fragments, interpolate, rasterize, sample
from pipelines.synthetic.head import hair
from pipelines.synthetic.head.head_model import LASHES, SKIN
from pipelines.synthetic.head.landmark_points import true_points
from pipelines.synthetic.head.mesh import BUN, EYES, HAIR, HeadMesh, Rest, vertex_normals
from pipelines.synthetic.head.person import Person
from pipelines.synthetic.head.skin import paint_skin
from pipelines.synthetic.motion.motion import Motion
from pipelines.synthetic.render import paint_kernels, shading
from pipelines.synthetic.render.background import paint_background, paint_clothes
from pipelines.synthetic.render.occlusion import key_light, openness
from pipelines.synthetic.render.scene import Scene
from pipelines.synthetic.render.shading import Lights, Surface, illuminate, shade_hair

_FINER = 1.25  # pixels drawn per pixel of the picture, along each side
_HEAD_HEIGHT, _HEAD_WIDTH = 0.235, 0.155  # metres, chin to crown and ear to ear of a usual head
_MIDDLE = (0.0, 0.07, 0.012)  # of the head, from between the eyes
_NEAR = 0.12  # metres; depths are stored as this over the distance
_DOUBLE = torch.tensor([[LASHES], [HAIR], [BUN]])


@dataclass(frozen=True)
class RenderedFrames:
    """Frames and what is true of them."""

    images: UInt8[Tensor, "frames height width 3"]
    points: Float32[Tensor, "frames 68 2"]
    """iBUG's 68 in pixels (right, down), centres at whole numbers; also where hair or a turned head hides them."""


@dataclass(frozen=True)
class SceneBatch:
    """People in scenes, ready to be filmed: pictures of each pair, and the numbers of each frame's."""

    row: Int64[Tensor, " frames"]  # which pair a frame shows
    skin: Float32[Tensor, "pairs skin_height skin_width 6"]
    cloth: Float32[Tensor, "pairs cloth_height cloth_width 4"]
    hair: Float32[Tensor, "pairs hair_height hair_width 5"]
    backgrounds: Float32[Tensor, "pairs size size 3"]
    rest: Rest
    lights: Lights
    irises: Float32[Tensor, "frames 3"]
    glasses: Float32[Tensor, "frames 3"]
    lashes: Float32[Tensor, " frames"]
    bears: Float32[Tensor, "frames vertices"]  # 0 for those of the hair beyond its edge
    softness: Float32[Tensor, " frames"]
    camera: Float32[Tensor, "frames 4"]  # distance, head's height, right, down
    sensor: Float32[Tensor, "frames 6"]  # exposure, contrast, saturation, blur, grain, vignette

    def of(self, row: Int64[Tensor, " frames"]) -> SceneBatch:
        """The pairs of these frames."""
        pictures = {name: getattr(self, name) for name in ("skin", "cloth", "hair", "backgrounds")}
        numbers = ("irises", "glasses", "lashes", "bears", "softness", "camera", "sensor")
        lights = Lights(**{name: value[row] for name, value in vars(self.lights).items()})
        return SceneBatch(
            row, **pictures, rest=self.rest[row], lights=lights, **{name: getattr(self, name)[row] for name in numbers}
        )


@dataclass(frozen=True)
class _Part:
    """Some of the mesh's triangles, and which part each is of."""

    faces: Int64[Tensor, "triangles 3"]
    parts: Int64[Tensor, " triangles"]


class Renderer:
    """Draws heads. The same pictures for the same arguments, whatever `frames_at_once`, on one kind of machine."""

    def __init__(self, size: int, device: str = "cpu", frames_at_once: int = 8) -> None:
        """Load the head model (made first when needed, a minute).

        Args:
            size: width and height of the pictures in pixels.
        """
        self._size, self._device, self._at_once = size, device, frames_at_once
        self._fine = math.ceil(size * _FINER)
        self._mesh = HeadMesh(device)
        self._open = openness(self._mesh)
        parts = self._mesh.parts
        layered = (parts == _DOUBLE.to(device)).any(dim=0)
        self._solid, self._layer = (_Part(self._mesh.faces[chosen], parts[chosen]) for chosen in (~layered, layered))

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[RenderedFrames]:
        """A clip, some frames at a time."""
        cast = self._scene_batch([person], [scene])
        for start in range(0, len(motion), self._at_once):
            frames = range(start, min(start + self._at_once, len(motion)))
            rows = torch.zeros(len(frames), dtype=torch.long, device=self._device)
            seeds = [(*scene.seed, frame) for frame in frames]
            part = slice(frames.start, frames.stop)
            yield self._draw(cast.of(rows), motion.actions[part], motion.angles[part], motion.travel[part], seeds)

    def frames(self, people: Sequence[Person], scenes: Sequence[Scene], motions: Sequence[Motion]) -> RenderedFrames:
        """One frame of each person in each scene: the first of each motion."""
        pairs = list(dict.fromkeys((person.seed, scene.seed) for person, scene in zip(people, scenes, strict=True)))
        place = {pair: row for row, pair in enumerate(pairs)}
        rows = [place[person.seed, scene.seed] for person, scene in zip(people, scenes, strict=True)]
        first = [rows.index(row) for row in range(len(pairs))]
        cast = self._scene_batch([people[index] for index in first], [scenes[index] for index in first])
        moves = [np.concatenate([values[:1] for values in of]) for of in zip(*map(_values, motions), strict=True)]
        pictures = []
        for start in range(0, len(people), self._at_once):
            part = slice(start, start + self._at_once)
            batch = cast.of(torch.tensor(rows[part], device=self._device))
            seeds = [(*scene.seed, index) for index, scene in enumerate(scenes[part], start)]
            pictures.append(self._draw(batch, moves[0][part], moves[1][part], moves[2][part], seeds))
        return RenderedFrames(torch.cat([p.images for p in pictures]), torch.cat([p.points for p in pictures]))

    def template_points_at(
        self, person: Person, scene: Scene, motion: Motion, points: Float32[Tensor, "points 2"]
    ) -> Float32[Tensor, "points 4"]:
        """What the first frame shows at these pixels: the place on the head model's template, and how squarely it is
        seen (0 edge-on, 1 face-on; 0 where there is no skin)."""
        cast = self._scene_batch([person], [scene])
        vertices = self._mesh.move(cast.rest, torch.from_numpy(motion.actions[:1]), torch.from_numpy(motion.angles[:1]))
        corners, eye = self._project(cast, vertices, torch.from_numpy(motion.travel[:1]))
        skin = self._mesh.faces[self._mesh.parts == SKIN]
        side = self._fine
        found = rasterize(corners, skin, side, side)
        view = functional.normalize(eye[:, None] - vertices, dim=-1)
        square = (vertex_normals(vertices, self._mesh.faces) * view).sum(dim=-1, keepdim=True)
        values = self._gather(found, skin, torch.cat([self._mesh.coordinates[None], square], dim=-1))
        coordinates, square = values[:, :4], values[:, 4]
        grid = torch.zeros(side * side, 4)
        square = square.clamp(0, 1) * (coordinates[:, 3] < 0.25)
        grid[found.pixels] = torch.cat([coordinates[:, :3], square[:, None]], dim=-1)
        column, row = ((points + 0.5) * side / self._size).long().clamp(0, side - 1).unbind(-1)
        return grid[row * side + column]

    def _scene_batch(self, people: Sequence[Person], scenes: Sequence[Scene]) -> SceneBatch:
        device, mesh = self._device, self._mesh

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
            worn = (down < hair.edge(person) + 3) & (person.hair.style != "bald")
            bears[row, mesh.block[HAIR]] = worn.reshape(-1).float()
        return SceneBatch(
            torch.arange(len(people), device=device),
            pictures([paint_skin(person) for person in people]),
            pictures([paint_clothes(scene) for scene in scenes]),
            pictures([hair.paint_hair(person) for person in people]),
            pictures([paint_background(scene, self._fine) for scene in scenes]),
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

    def _draw(
        self,
        cast: SceneBatch,
        actions: np.ndarray,
        angles: np.ndarray,
        travel: np.ndarray,
        seeds: Sequence[tuple[int, ...]],
    ) -> RenderedFrames:
        mesh, side = self._mesh, self._fine
        actions_, angles_, travel_ = (
            torch.from_numpy(np.asarray(values, np.float32)).to(self._device) for values in (actions, angles, travel)
        )
        vertices = mesh.move(cast.rest, actions_, angles_)
        normals = vertex_normals(vertices, mesh.faces)
        corners, eye = self._project(cast, vertices, travel_)
        lit = key_light(mesh, vertices, normals, cast.lights.towards[:, 0], cast.softness, cast.bears)
        view = functional.normalize(eye[:, None] - vertices, dim=-1)
        known = torch.cat([normals, view, lit[..., None], self._open.expand_as(lit)[..., None]], dim=-1)
        colour = cast.backgrounds[cast.row].reshape(-1, 3)
        solid = rasterize(corners, self._solid.faces, side, side)
        self._paint_solid(cast, solid, known, colour)
        depth = torch.zeros(len(colour), device=self._device)
        depth[solid.pixels] = solid.inverse_depth
        grown = torch.cat([corners[..., :2], corners[..., 2:] * cast.bears[..., None]], dim=-1)
        layer = rasterize(grown, self._layer.faces, side, side, two_sided=True)
        front = (layer.inverse_depth > depth[layer.pixels] * 0.9995).nonzero()[:, 0]
        layer = layer.of(front)
        pixels, over, cover = self._layer_colour(cast, layer, known)
        colour[pixels] = torch.lerp(colour[pixels], over, cover[:, None])
        images = self._develop(cast, colour.reshape(-1, side, side, 3), seeds)
        points = self._project_points(cast, true_points(vertices), travel_)
        return RenderedFrames(images, points * (self._size / side) - 0.5)

    def _project(self, cast: SceneBatch, vertices: Tensor, travel: Tensor) -> tuple[Tensor, Tensor]:
        """Corners for the rasteriser, and where the camera is."""
        middle = self._middle(cast)
        distance = _distance(cast, travel)
        flat = self._project_points(cast, vertices, travel)
        depth = vertices[..., 1] - middle[:, None, 1] + distance[:, None]
        eye = middle - torch.stack([torch.zeros_like(distance), distance, torch.zeros_like(distance)], dim=-1)
        return torch.cat([flat, (_NEAR / depth.clamp(min=_NEAR))[..., None]], dim=-1), eye

    def _project_points(self, cast: SceneBatch, points: Tensor, travel: Tensor) -> Float32[Tensor, "frames points 2"]:
        """Pixels of the fine picture."""
        middle, side = self._middle(cast), self._fine
        distance, height, right, down = cast.camera[:, :, None].unbind(1)
        focal = height * side * distance / _HEAD_HEIGHT
        depth = points[..., 1] - middle[:, None, 1] + _distance(cast, travel)[:, None]
        step = travel[:, :2, None] * _HEAD_WIDTH * focal[:, None] / distance[:, None]
        x = focal * (points[..., 0] - middle[:, None, 0]) / depth + right * side + step[:, 0]
        y = -focal * (points[..., 2] - middle[:, None, 2]) / depth + down * side + step[:, 1]
        return torch.stack([x, y], dim=-1)

    def _middle(self, cast: SceneBatch) -> Float32[Tensor, "frames 3"]:
        return cast.rest.eyes[:, :, :3].mean(dim=1) + torch.tensor(_MIDDLE, device=self._device)

    def _gather(
        self, found: Fragments, faces: Int64[Tensor, "triangles 3"], values: Float32[Tensor, "frames vertices channels"]
    ) -> Float32[Tensor, "fragments channels"]:
        """Values of vertices at the fragments."""
        return interpolate(found, faces, values, self._fine**2)

    def _paint_solid(
        self, cast: SceneBatch, found: Fragments, known: Tensor, colour: Float32[Tensor, "pixels 3"]
    ) -> None:
        """Paint what hides what is behind it: all but hair and lashes."""
        frames, number, _ = known.shape
        frame = torch.arange(frames, device=known.device).repeat_interleave(number)
        light = illuminate(_surface(frame, known.reshape(-1, 8)), cast.lights, 18.0)
        place = self._mesh.coordinates.expand(frames, -1, -1)
        table = torch.cat([*(values.reshape(frames, number, -1) for values in light), place], dim=-1)
        faces, parts = self._solid.faces, self._solid.parts
        kernels.launch(
            paint_kernels.paint,
            len(found.pixels),
            found.pixels,
            found.triangles,
            found.weights,
            faces,
            parts,
            table,
            self._fine**2,
            cast.row,
            cast.skin,
            cast.cloth,
            cast.glasses,
            colour,
        )
        eyes = found.of((parts[found.triangles] == EYES).nonzero()[:, 0])
        surface = _surface(eyes.pixels // self._fine**2, self._gather(eyes, faces, known))
        colour[eyes.pixels] = self._eyes(cast, surface, self._gather(eyes, faces, place))

    def _eyes(self, cast: SceneBatch, surface: Surface, place: Tensor) -> Tensor:
        albedo = shading.paint_eye(functional.normalize(place[:, :3], dim=-1), cast.irises[surface.frame])
        under = 1 - 0.55 * smoothstep(0.0, 0.42, surface.normal[:, 2])  # the lid's shadow
        under = under - 0.35 * smoothstep(0.3, 0.8, surface.normal[:, 0].abs())
        shadowed = Surface(surface.frame, surface.normal, surface.view, surface.lit * under, surface.open * under)
        diffuse, sheen, _ = illuminate(shadowed, cast.lights, 25.0, wrap=False)
        _, glint, _ = illuminate(shadowed, cast.lights, 350.0, wrap=False)
        return 0.9 * albedo * diffuse + 0.06 * sheen + 0.84 * glint

    def _layer_colour(
        self, cast: SceneBatch, found: Fragments, known: Tensor
    ) -> tuple[Int64[Tensor, " shown"], Float32[Tensor, "shown 3"], Float32[Tensor, " shown"]]:
        """Pixels, colour and cover of hair and lashes."""
        faces, side = self._layer.faces, self._fine
        parts = self._layer.parts[found.triangles]
        place = self._gather(found, faces, self._mesh.coordinates.expand(len(known), -1, -1))
        knot, lash = parts == BUN, parts == LASHES
        around = torch.where(knot, torch.rad2deg(torch.atan2(place[:, 0], place[:, 1])), place[:, 0])
        down = torch.where(knot, 20 + 30 * place[:, 2], place[:, 1])
        frame = found.pixels // side**2
        strands = sample(cast.hair, cast.row[frame], around / 360 + 0.5, down / 130)
        cover = torch.where(knot, 1.0, strands[:, 3])
        cover = torch.where(lash, 0.75 * cast.lashes[frame], cover)
        shown = (cover > 0.02).nonzero()[:, 0]
        found = found.of(shown)
        values = self._gather(found, faces, known)
        turned = torch.where((values[:, :3] * values[:, 3:6]).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
        surface = _surface(frame[shown], torch.cat([values[:, :3] * turned, values[:, 3:]], dim=-1))
        colour = shade_hair(surface, cast.lights, strands[shown, :3], strands[shown, 4])
        colour = torch.where(lash[shown, None], torch.tensor([0.008, 0.006, 0.005], device=self._device), colour)
        return found.pixels, colour, cover[shown]

    def _develop(
        self, cast: SceneBatch, light: Float32[Tensor, "frames side side 3"], seeds: Sequence[tuple[int, ...]]
    ) -> UInt8[Tensor, "frames size size 3"]:
        """Lens and sensor: linear light to 8-bit sRGB."""
        size, device = self._size, self._device
        exposure, contrast, saturation, blur, grain, vignette = cast.sensor[:, :, None, None, None].unbind(1)
        picture = _shrunk(light, size).mul_(0.7 * exposure)
        picture = _blurred(picture, blur[:, 0, 0, 0] * size / 256)
        axis = torch.linspace(-1, 1, size, device=device)
        picture.mul_(1 - vignette * 0.5 * (axis[:, None] ** 2 + axis[None] ** 2))
        # A filmic curve (Narkowicz 2015), then sRGB's; in place, as a batch is larger than the processor's cache.
        below = (2.43 * picture).add_(0.59).mul_(picture).add_(0.14)
        picture.mul_((2.51 * picture).add_(0.03)).div_(below).clamp_(0, 1).pow_(1 / 2.2)
        picture.sub_(0.5).mul_(contrast).add_(0.5)
        red, green, blue = picture.unbind(dim=1)
        grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
        picture.sub_(grey).mul_(saturation).add_(grey)
        noise = [np.random.default_rng(seed).standard_normal((1, size, size), dtype=np.float32) for seed in seeds]
        picture.add_(torch.from_numpy(np.stack(noise)).to(device).mul_(grain))
        return picture.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _distance(cast: SceneBatch, travel: Float32[Tensor, "frames 3"]) -> Float32[Tensor, " frames"]:
    """From the camera to the head, metres: at half of it a head is seen at twice its size."""
    return cast.camera[:, 0] * torch.exp(-travel[:, 2])


def _values(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return motion.actions, motion.angles, motion.travel


def _surface(frame: Tensor, known: Float32[Tensor, "points 8"]) -> Surface:
    """From normals, views, light and openness, interpolated."""
    normal, view = functional.normalize(known[:, :3], dim=-1), functional.normalize(known[:, 3:6], dim=-1)
    return Surface(frame, normal, view, known[:, 6].clamp(0, 1), known[:, 7].clamp(0, 1))


def _shrunk(light: Float32[Tensor, "frames side side 3"], size: int) -> Float32[Tensor, "frames 3 size size"]:
    """Means over the area of each pixel."""
    frames, side, _, _ = light.shape
    number = torch.arange(size, device=light.device)
    starts, ends = number * side // size, ((number + 1) * side + size - 1) // size
    picture = torch.empty(frames, 3, size, size, device=light.device)
    kernels.launch(kernels.shrink, (frames, size), light.reshape(-1, 3), starts, ends, side, picture.view(-1, size))
    return picture


def _blurred(picture: Float32[Tensor, "frames 3 size size"], sigma: Float32[Tensor, " frames"]) -> Tensor:
    """Gaussian blur, a width per frame."""
    reach = 2
    offset = torch.arange(-reach, reach + 1, device=picture.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma.clamp(min=0.05)[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    frames, _, height, width = picture.shape
    flat = functional.pad(picture.reshape(1, frames * 3, height, width), (reach,) * 4, mode="replicate")
    flat = functional.conv2d(flat, kernel[:, None, None], groups=frames * 3)
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=frames * 3)
    return flat.reshape(picture.shape)
