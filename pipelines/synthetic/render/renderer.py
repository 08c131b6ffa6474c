"""Render people in scenes: frames and their landmarks, in batches, on CPU or GPU."""

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
from pipelines.synthetic.graphics.noise import smoothstep
from pipelines.synthetic.graphics.rasterizer import Fragments, interpolate, rasterize, sample
from pipelines.synthetic.head.head_model import LASHES, SKIN
from pipelines.synthetic.head.landmark_points import true_points
from pipelines.synthetic.head.mesh import BUN, EYES, HAIR, HeadMesh, vertex_normals
from pipelines.synthetic.head.person import Person
from pipelines.synthetic.motion.motion import Motion
from pipelines.synthetic.render import paint_kernels, shading
from pipelines.synthetic.render.occlusion import key_light, openness
from pipelines.synthetic.render.scene import Scene
from pipelines.synthetic.render.scene_batch import SceneBatch
from pipelines.synthetic.render.sensor import develop
from pipelines.synthetic.render.shading import Surface, illuminate, shade_hair

_SUPERSAMPLING = 1.25  # rendered pixels per pixel of the frame, along each side
_HEAD_HEIGHT, _HEAD_WIDTH = 0.235, 0.155  # metres, chin to crown and ear to ear of an average head
_MIDDLE = (0.0, 0.07, 0.012)  # centre of the head in metres, from the midpoint of the eyes
_NEAR = 0.12  # metres; depth is stored as _NEAR / distance
_TWO_SIDED = torch.tensor([[LASHES], [HAIR], [BUN]])


@dataclass(frozen=True)
class RenderedFrames:
    """Frames and their ground truth."""

    images: UInt8[Tensor, "frames height width 3"]
    points: Float32[Tensor, "frames 68 2"]
    """The 68 iBUG landmarks in pixels (right, down), pixel centres at integers, including occluded ones."""


@dataclass(frozen=True)
class _Triangles:
    """A subset of the mesh's triangles, and the part of each."""

    faces: Int64[Tensor, "triangles 3"]
    parts: Int64[Tensor, " triangles"]


class Renderer:
    """Renders heads. Results depend on the arguments and the kind of machine, but not on `frames_at_once`."""

    def __init__(self, size: int, device: str = "cpu", frames_at_once: int = 8) -> None:
        """Load the head model, which is extracted on first use (a minute).

        Args:
            size: width and height of the frames in pixels.
        """
        self._size, self._device, self._at_once = size, device, frames_at_once
        self._fine = math.ceil(size * _SUPERSAMPLING)
        self._mesh = HeadMesh(device)
        self._open = openness(self._mesh)
        parts = self._mesh.parts
        layered = (parts == _TWO_SIDED.to(device)).any(dim=0)
        self._solid, self._layer = (
            _Triangles(self._mesh.faces[chosen], parts[chosen]) for chosen in (~layered, layered)
        )

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[RenderedFrames]:
        """Yield the frames of a clip in batches."""
        batch = SceneBatch.create([person], [scene], self._mesh, self._fine)
        for start in range(0, len(motion), self._at_once):
            frames = range(start, min(start + self._at_once, len(motion)))
            rows = torch.zeros(len(frames), dtype=torch.long, device=self._device)
            seeds = [(*scene.seed, frame) for frame in frames]
            part = slice(frames.start, frames.stop)
            yield self._draw(batch.select(rows), motion.actions[part], motion.angles[part], motion.travel[part], seeds)

    def frames(self, people: Sequence[Person], scenes: Sequence[Scene], motions: Sequence[Motion]) -> RenderedFrames:
        """Render one frame of each person in their scene: the first of each motion."""
        pairs = list(dict.fromkeys((person.seed, scene.seed) for person, scene in zip(people, scenes, strict=True)))
        place = {pair: row for row, pair in enumerate(pairs)}
        rows = [place[person.seed, scene.seed] for person, scene in zip(people, scenes, strict=True)]
        first = [rows.index(row) for row in range(len(pairs))]
        batch = SceneBatch.create(
            [people[index] for index in first], [scenes[index] for index in first], self._mesh, self._fine
        )
        moves = [np.concatenate([values[:1] for values in of]) for of in zip(*map(_values, motions), strict=True)]
        pictures = []
        for start in range(0, len(people), self._at_once):
            part = slice(start, start + self._at_once)
            part_batch = batch.select(torch.tensor(rows[part], device=self._device))
            seeds = [(*scene.seed, index) for index, scene in enumerate(scenes[part], start)]
            pictures.append(self._draw(part_batch, moves[0][part], moves[1][part], moves[2][part], seeds))
        return RenderedFrames(torch.cat([p.images for p in pictures]), torch.cat([p.points for p in pictures]))

    def template_points_at(
        self, person: Person, scene: Scene, motion: Motion, points: Float32[Tensor, "points 2"]
    ) -> Float32[Tensor, "points 4"]:
        """Return the point of the head model's template at pixels of the first frame, and the cosine between its normal
        and the view (0 where there is no skin)."""
        batch = SceneBatch.create([person], [scene], self._mesh, self._fine)
        vertices = self._mesh.move(
            batch.rest, torch.from_numpy(motion.actions[:1]), torch.from_numpy(motion.angles[:1])
        )
        corners, eye = self._project(batch, vertices, torch.from_numpy(motion.travel[:1]))
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

    def _draw(
        self,
        batch: SceneBatch,
        actions: np.ndarray,
        angles: np.ndarray,
        travel: np.ndarray,
        seeds: Sequence[tuple[int, ...]],
    ) -> RenderedFrames:
        mesh, side = self._mesh, self._fine
        actions_, angles_, travel_ = (
            torch.from_numpy(np.asarray(values, np.float32)).to(self._device) for values in (actions, angles, travel)
        )
        vertices = mesh.move(batch.rest, actions_, angles_)
        normals = vertex_normals(vertices, mesh.faces)
        corners, eye = self._project(batch, vertices, travel_)
        lit = key_light(mesh, vertices, normals, batch.lights.towards[:, 0], batch.softness, batch.bears)
        view = functional.normalize(eye[:, None] - vertices, dim=-1)
        known = torch.cat([normals, view, lit[..., None], self._open.expand_as(lit)[..., None]], dim=-1)
        colour = batch.backgrounds[batch.row].reshape(-1, 3)
        solid = rasterize(corners, self._solid.faces, side, side)
        self._paint_solid(batch, solid, known, colour)
        depth = torch.zeros(len(colour), device=self._device)
        depth[solid.pixels] = solid.inverse_depth
        grown = torch.cat([corners[..., :2], corners[..., 2:] * batch.bears[..., None]], dim=-1)
        layer = rasterize(grown, self._layer.faces, side, side, two_sided=True)
        front = (layer.inverse_depth > depth[layer.pixels] * 0.9995).nonzero()[:, 0]
        layer = layer.select(front)
        pixels, over, cover = self._layer_colour(batch, layer, known)
        colour[pixels] = torch.lerp(colour[pixels], over, cover[:, None])
        images = develop(colour.reshape(-1, side, side, 3), batch.sensor, self._size, seeds)
        points = self._project_points(batch, true_points(vertices), travel_)
        return RenderedFrames(images, points * (self._size / side) - 0.5)

    def _project(self, batch: SceneBatch, vertices: Tensor, travel: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vertices for the rasterizer, and the position of the camera."""
        middle = self._middle(batch)
        distance = _distance(batch, travel)
        flat = self._project_points(batch, vertices, travel)
        depth = vertices[..., 1] - middle[:, None, 1] + distance[:, None]
        eye = middle - torch.stack([torch.zeros_like(distance), distance, torch.zeros_like(distance)], dim=-1)
        return torch.cat([flat, (_NEAR / depth.clamp(min=_NEAR))[..., None]], dim=-1), eye

    def _project_points(self, batch: SceneBatch, points: Tensor, travel: Tensor) -> Float32[Tensor, "frames points 2"]:
        """Project points to pixels of the supersampled frame."""
        middle, side = self._middle(batch), self._fine
        distance, height, right, down = batch.camera[:, :, None].unbind(1)
        focal = height * side * distance / _HEAD_HEIGHT
        depth = points[..., 1] - middle[:, None, 1] + _distance(batch, travel)[:, None]
        step = travel[:, :2, None] * _HEAD_WIDTH * focal[:, None] / distance[:, None]
        x = focal * (points[..., 0] - middle[:, None, 0]) / depth + right * side + step[:, 0]
        y = -focal * (points[..., 2] - middle[:, None, 2]) / depth + down * side + step[:, 1]
        return torch.stack([x, y], dim=-1)

    def _middle(self, batch: SceneBatch) -> Float32[Tensor, "frames 3"]:
        return batch.rest.eyes[:, :, :3].mean(dim=1) + torch.tensor(_MIDDLE, device=self._device)

    def _gather(
        self, found: Fragments, faces: Int64[Tensor, "triangles 3"], values: Float32[Tensor, "frames vertices channels"]
    ) -> Float32[Tensor, "fragments channels"]:
        """Interpolate vertex values at the fragments."""
        return interpolate(found, faces, values, self._fine**2)

    def _paint_solid(
        self, batch: SceneBatch, found: Fragments, known: Tensor, colour: Float32[Tensor, "pixels 3"]
    ) -> None:
        """Paint the opaque parts: everything but hair and lashes."""
        frames, number, _ = known.shape
        frame = torch.arange(frames, device=known.device).repeat_interleave(number)
        light = illuminate(_surface(frame, known.reshape(-1, 8)), batch.lights, 18.0)
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
            batch.row,
            batch.skin,
            batch.cloth,
            batch.glasses,
            colour,
        )
        eyes = found.select((parts[found.triangles] == EYES).nonzero()[:, 0])
        surface = _surface(eyes.pixels // self._fine**2, self._gather(eyes, faces, known))
        colour[eyes.pixels] = self._eyes(batch, surface, self._gather(eyes, faces, place))

    def _eyes(self, batch: SceneBatch, surface: Surface, place: Tensor) -> Tensor:
        albedo = shading.paint_eye(functional.normalize(place[:, :3], dim=-1), batch.irises[surface.frame])
        under = 1 - 0.55 * smoothstep(0.0, 0.42, surface.normal[:, 2])  # shadow of the lid
        under = under - 0.35 * smoothstep(0.3, 0.8, surface.normal[:, 0].abs())
        shadowed = Surface(surface.frame, surface.normal, surface.view, surface.lit * under, surface.open * under)
        diffuse, sheen, _ = illuminate(shadowed, batch.lights, 25.0, wrap=False)
        _, glint, _ = illuminate(shadowed, batch.lights, 350.0, wrap=False)
        return 0.9 * albedo * diffuse + 0.06 * sheen + 0.84 * glint

    def _layer_colour(
        self, batch: SceneBatch, found: Fragments, known: Tensor
    ) -> tuple[Int64[Tensor, " shown"], Float32[Tensor, "shown 3"], Float32[Tensor, " shown"]]:
        """Return pixels, colour and opacity of hair and lashes."""
        faces, side = self._layer.faces, self._fine
        parts = self._layer.parts[found.triangles]
        place = self._gather(found, faces, self._mesh.coordinates.expand(len(known), -1, -1))
        knot, lash = parts == BUN, parts == LASHES
        around = torch.where(knot, torch.rad2deg(torch.atan2(place[:, 0], place[:, 1])), place[:, 0])
        down = torch.where(knot, 20 + 30 * place[:, 2], place[:, 1])
        frame = found.pixels // side**2
        strands = sample(batch.hair, batch.row[frame], around / 360 + 0.5, down / 130)
        cover = torch.where(knot, 1.0, strands[:, 3])
        cover = torch.where(lash, 0.75 * batch.lashes[frame], cover)
        shown = (cover > 0.02).nonzero()[:, 0]
        found = found.select(shown)
        values = self._gather(found, faces, known)
        turned = torch.where((values[:, :3] * values[:, 3:6]).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
        surface = _surface(frame[shown], torch.cat([values[:, :3] * turned, values[:, 3:]], dim=-1))
        colour = shade_hair(surface, batch.lights, strands[shown, :3], strands[shown, 4])
        colour = torch.where(lash[shown, None], torch.tensor([0.008, 0.006, 0.005], device=self._device), colour)
        return found.pixels, colour, cover[shown]


def _distance(batch: SceneBatch, travel: Float32[Tensor, "frames 3"]) -> Float32[Tensor, " frames"]:
    """Return the distance from the camera to the head in metres, inverse to its apparent size."""
    return batch.camera[:, 0] * torch.exp(-travel[:, 2])


def _values(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return motion.actions, motion.angles, motion.travel


def _surface(frame: Tensor, known: Float32[Tensor, "points 8"]) -> Surface:
    """Split interpolated normals, view directions, key light and openness."""
    normal, view = functional.normalize(known[:, :3], dim=-1), functional.normalize(known[:, 3:6], dim=-1)
    return Surface(frame, normal, view, known[:, 6].clamp(0, 1), known[:, 7].clamp(0, 1))
