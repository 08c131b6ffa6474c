"""All of a head's geometry: skin, eyes, teeth, hair, glasses; how it is put together for a person and how it moves.

The triangles are the same for everybody, so that frames of different people are one batch. What a person does not wear
is folded into a point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional

from pipelines.synthetic.graphics.grids import grid_faces
from pipelines.synthetic.graphics.noise import smoothstep
from pipelines.synthetic.head import hair
from pipelines.synthetic.head.arkit_actions import ACTIONS, action_index
from pipelines.synthetic.head.head_model import load_head_model
from pipelines.synthetic.head.person import Person
from pipelines.synthetic.head.skin import beard_masks
from pipelines.synthetic.head.teeth import TeethPlacement

EYES, HAIR, BUN, GLASSES = range(4, 8)
"""Parts beside those of `head_model`."""

_RINGS, _SECTORS = 9, 16  # of an eyeball's front
_RIM, _WIRE = 24, 5  # corners round a lens, corners round its wire
_GAZE = {"In": 38.0, "Out": 38.0, "Up": 28.0, "Down": 30.0}  # degrees at full action
_NECKLINE = 0.585  # metres of the template; below it there are clothes
_JAW = 1.5  # times as wide as the model opens it
_PIVOT = (0.0, 0.10, -0.085)  # of the head's turn, from between the eyes


@dataclass(frozen=True)
class Rest:
    """Heads of people at rest, all vertices, in metres."""

    vertices: Float32[Tensor, "people vertices 3"]
    eyes: Float32[Tensor, "people 2 4"]  # middle and radius of each eyeball
    turns: Float32[Tensor, "people vertices"]

    def __getitem__(self, rows: Tensor) -> Rest:
        return Rest(self.vertices[rows], self.eyes[rows], self.turns[rows])


class HeadMesh:
    """The triangles of a head and its motion."""

    def __init__(self, device: str = "cpu") -> None:
        model = load_head_model().to(device)
        self.model, self.device = model, device
        self.num_head = len(model.template)
        directions, ball = _half_ball()
        self._directions = directions.to(device)
        self._scalp = hair.bind(load_head_model())
        bun, round_bun = _ball(8, 12)
        self._bun = bun.to(device)
        wire = _glasses_faces()
        blocks: list[tuple[Tensor, int, int]] = []
        start = self.num_head
        self.block: dict[int, slice] = {}
        for part, number, faces in (
            (EYES, 2 * len(directions), torch.cat([ball, ball + len(directions)])),
            (HAIR, hair.NUM_VERTICES, hair.faces()),
            (BUN, len(bun), round_bun),
            (GLASSES, _NUM_GLASSES, wire),
        ):
            self.block[part] = slice(start, start + number)
            blocks.append((faces + start, part, number))
            start += number
        self.num_vertices = start
        self.faces = torch.cat([model.faces.cpu(), *(faces for faces, _, _ in blocks)]).to(device)
        parts = [model.parts.cpu(), *(torch.full((len(faces),), part) for faces, part, _ in blocks)]
        self.parts: Int64[Tensor, " triangles"] = torch.cat(parts).to(device)
        self.coordinates: Float32[Tensor, "vertices 4"] = self._coordinates().to(device)
        beard, moustache = beard_masks(model.template[:, 0], model.template[:, 2], model.template[:, 1])
        self._beard, self._moustache = beard, moustache
        torso = smoothstep(
            _NECKLINE, _NECKLINE - 0.01, model.template[:, 2] + 0.35 * (model.template[:, 1] + 0.02).abs()
        )
        self._dressed = torso * (model.turns < 0.6)
        self._bite = TeethPlacement(model)
        self._actions = self._bite.follow(model.actions).flatten(1)
        # The model's jaw goes down less far than those that MediaPipe calls as open: per 1 of jawOpen lips part by .74
        # to .92 of the eyes' distance in the real clips, by .48 to .56 in the model. The lips shut over it as far.
        self._actions[[action_index("jawOpen"), action_index("mouthClose")]] *= _JAW

    def _coordinates(self) -> Float32[Tensor, "vertices 4"]:
        """What shading knows of a vertex: its place on the template (and 1 in the mouth), in an eye or in the hair."""
        values = torch.zeros(self.num_vertices, 4)
        values[: self.num_head, :3] = self.model.template.cpu()
        values[: self.num_head, 3] = self.model.cavity.cpu()
        values[self.block[EYES], :3] = self._directions.cpu().repeat(2, 1)
        values[self.block[HAIR], :3] = hair.coordinates()
        values[self.block[BUN], :3] = self._bun.cpu()
        return values

    def rest(self, people: Sequence[Person]) -> Rest:
        """Put people together."""
        model = self.model
        phenotype = torch.from_numpy(np.stack([person.phenotype for person in people])).to(self.device)
        local = torch.from_numpy(np.stack([person.local(list(model.local_labels)) for person in people])).to(
            self.device
        )
        head = model.shape(phenotype, local)
        normals = vertex_normals(head, model.faces)
        eyes = _eyeballs(head, model.eyes)
        vertices = torch.zeros(len(people), self.num_vertices, 3, device=self.device)
        turns = torch.ones(len(people), self.num_vertices, device=self.device)
        turns[:, : self.num_head] = model.turns
        for row, person in enumerate(people):
            self._bite.place(head[row], *person.teeth)
            length = 0.008 * person.skin.beard * self._beard + 0.004 * person.skin.moustache * self._moustache
            vertices[row, : self.num_head] = head[row] + normals[row] * (length + 0.006 * self._dressed)[:, None]
            grown, held = hair.grow(person, head[row], normals[row], self._scalp)
            vertices[row, self.block[HAIR]], turns[row, self.block[HAIR]] = grown, held
            vertices[row, self.block[BUN]] = hair.bun(person, grown, self._bun)
            vertices[row, self.block[GLASSES]] = _glasses(person, eyes[row], head[row], model.template)
        vertices[:, self.block[EYES]] = self._eye_vertices(eyes, torch.zeros(len(people), 2, 2, device=self.device))
        return Rest(vertices, eyes, turns)

    def move(
        self, rest: Rest, actions: Float32[Tensor, "frames 52"], angles: Float32[Tensor, "frames 3"]
    ) -> Float32[Tensor, "frames vertices 3"]:
        """Make faces and turn heads.

        Args:
            rest: one person for each frame.
            angles: yaw, pitch, roll in degrees, signs as in `pipelines.faces.head_pose.Pose`.
        """
        vertices = rest.vertices.clone()
        moved = (actions @ self._actions).reshape(len(actions), self.num_head, 3)
        vertices[:, : self.num_head] += moved
        vertices[:, self.block[EYES]] = self._eye_vertices(rest.eyes, gaze(actions))
        pivot = rest.eyes[:, :, :3].mean(dim=1) + torch.tensor(_PIVOT, device=self.device)
        return _turn(vertices, rest.turns, angles, pivot)

    def _eye_vertices(
        self, eyes: Float32[Tensor, "frames 2 4"], looks: Float32[Tensor, "frames 2 2"]
    ) -> Float32[Tensor, "frames vertices 3"]:
        """Eyeballs turned by (yaw, pitch) of the gaze, radians, to the person's left and up."""
        (sy, sp), (cy, cp) = torch.sin(looks).unbind(-1), torch.cos(looks).unbind(-1)
        x, y, z = self._directions.T
        pitched_y, pitched_z = y * cp[..., None] + z * sp[..., None], z * cp[..., None] - y * sp[..., None]
        turned = torch.stack(
            [x * cy[..., None] - pitched_y * sy[..., None], pitched_y * cy[..., None] + x * sy[..., None], pitched_z],
            dim=-1,
        )
        return (eyes[:, :, None, :3] + turned * eyes[:, :, None, 3:]).flatten(1, 2)


def gaze(actions: Float32[Tensor, "frames 52"]) -> Float32[Tensor, "frames 2 2"]:
    """Yaw (to the person's left) and pitch (up) of the left and the right eye, radians."""
    value = {name: actions[:, index] for index, name in enumerate(ACTIONS)}
    rows = []
    for side, outwards in (("Left", 1.0), ("Right", -1.0)):
        out = value[f"eyeLookOut{side}"] * _GAZE["Out"] - value[f"eyeLookIn{side}"] * _GAZE["In"]
        up = value[f"eyeLookUp{side}"] * _GAZE["Up"] - value[f"eyeLookDown{side}"] * _GAZE["Down"]
        rows.append(torch.stack([outwards * out, up], dim=-1))
    return torch.deg2rad(torch.stack(rows, dim=1))


def vertex_normals(
    vertices: Float32[Tensor, "frames vertices 3"], faces: Int64[Tensor, "triangles 3"]
) -> Float32[Tensor, "frames vertices 3"]:
    """Unit normals, triangles weighted by area, outwards."""
    corners = vertices[:, faces]
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], normals)
    return functional.normalize(total, dim=-1)


def _turn(vertices: Tensor, turns: Tensor, angles: Float[Tensor, "frames 3"], pivot: Tensor) -> Tensor:
    """Rotate each vertex by its share, about the axis of the whole turn (Rodrigues)."""
    axis = _axis(torch.deg2rad(angles))
    whole = axis.norm(dim=-1, keepdim=True)
    unit = (axis / whole.clamp(min=1e-8))[:, None]
    share = turns * whole
    sine, cosine = torch.sin(share)[..., None], torch.cos(share)[..., None]
    arm = vertices - pivot[:, None]
    along = (arm * unit).sum(dim=-1, keepdim=True)
    turned: Tensor = arm * cosine + torch.linalg.cross(unit.expand_as(arm), arm) * sine + unit * along * (1 - cosine)
    return turned + pivot[:, None]


def _axis(angles: Float[Tensor, "frames 3"]) -> Tensor:
    """Axis times angle of roll after yaw after pitch, in the head's axes."""
    yaw, pitch, roll = angles.double().unbind(-1)
    # Seen in the picture, x of the head points to the right, y away from the camera and z up.
    about = [_rotation(2, yaw), _rotation(0, -pitch), _rotation(1, roll)]
    matrix = about[2] @ about[0] @ about[1]
    cosine = ((matrix.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    angle = torch.arccos(cosine)
    skew = torch.stack(
        [
            matrix[:, 2, 1] - matrix[:, 1, 2],
            matrix[:, 0, 2] - matrix[:, 2, 0],
            matrix[:, 1, 0] - matrix[:, 0, 1],
        ],
        dim=-1,
    )
    return (skew * (angle / (2 * torch.sin(angle)).clamp(min=1e-9))[:, None]).float()


def _rotation(axis: int, angle: Tensor) -> Tensor:
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=angle.dtype, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, one, one] = matrix[:, other, other] = torch.cos(angle)
    matrix[:, other, one], matrix[:, one, other] = torch.sin(angle), -torch.sin(angle)
    return matrix


def _eyeballs(
    head: Float32[Tensor, "people vertices 3"], rings: Int64[Tensor, "2 ring"]
) -> Float32[Tensor, "people 2 4"]:
    """Middle and radius, from the mesh's own eyes, whose corneas bulge forwards."""
    points = head[:, rings]  # people 2 ring 3
    low, high = points.amin(dim=2), points.amax(dim=2)
    radius = ((high - low)[..., 0] + (high - low)[..., 2]) / 4
    middle = (low + high) / 2
    middle[..., 1] = high[..., 1] - radius
    return torch.cat([middle, radius[..., None]], dim=-1)


def _half_ball() -> tuple[Float32[Tensor, "vertices 3"], Int64[Tensor, "triangles 3"]]:
    """Unit directions within 110 degrees of straight ahead (-y), and triangles seen from outside."""
    polar = torch.linspace(0, math.radians(110), _RINGS)
    around = torch.arange(_SECTORS) * (2 * math.pi / _SECTORS)
    x = torch.sin(polar)[:, None] * torch.cos(around)
    z = torch.sin(polar)[:, None] * torch.sin(around)
    y = -torch.cos(polar)[:, None].expand_as(x)
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3), grid_faces(_RINGS, _SECTORS, closed=True).flip(1)


def _ball(rings: int, sectors: int) -> tuple[Tensor, Tensor]:
    polar = torch.linspace(0, math.pi, rings)
    around = torch.arange(sectors) * (2 * math.pi / sectors)
    x, y = torch.sin(polar)[:, None] * torch.cos(around), torch.sin(polar)[:, None] * torch.sin(around)
    z = torch.cos(polar)[:, None].expand_as(x)
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3), grid_faces(rings, sectors, closed=True)


_NUM_GLASSES = 2 * _RIM * _WIRE + 3 * 2 * _WIRE  # two rims, a bridge and two temples


def _glasses_faces() -> Int64[Tensor, "triangles 3"]:
    rim, straight = grid_faces(_RIM, _WIRE, closed=True, ring=True), grid_faces(2, _WIRE, closed=True)
    faces, start = [], 0
    for wire, rows in ((rim, _RIM), (rim, _RIM), *[(straight, 2)] * 3):
        faces.append(wire + start)
        start += rows * _WIRE
    return torch.cat(faces)


def _glasses(
    person: Person,
    eyes: Float32[Tensor, "2 4"],
    head: Float32[Tensor, "vertices 3"],
    template: Float32[Tensor, "vertices 3"],
) -> Float32[Tensor, "wires 3"]:
    """Wires of rims, bridge and temples; a point inside the head where there are none."""
    middle = eyes[:, :3].mean(dim=0)
    if person.glasses <= 0:
        return (middle + torch.tensor([0.0, 0.06, 0.0], device=eyes.device)).expand(_NUM_GLASSES, 3)
    front = float(head[:, 1][(template[:, 2] - 0.7284).abs() < 0.006].amin()) - 0.004  # the nose's bridge
    height, round_ = person.glasses / 2, person.glasses_round
    half = float((eyes[0, 0] - eyes[1, 0]) / 2) * 0.8
    around = torch.arange(_RIM, device=eyes.device) * (2 * math.pi / _RIM)
    power = 0.55 + 0.45 * round_
    shape = torch.stack([torch.cos(around), torch.sin(around)], dim=-1)
    shape = shape.sign() * shape.abs() ** power
    width = half * (1 - round_) + max(height, half * 0.8) * round_
    curves = []
    for eye in eyes:
        x = eye[0] + shape[:, 0] * width
        z = eye[2] - 0.003 + shape[:, 1] * height
        y = front + 2.2 * (x - middle[0]) ** 2
        curves.append(torch.stack([x, y, z], dim=-1))
    radius = 0.0011 + 0.0009 * (1 - round_)
    wires = [_tube(curve, radius, closed=True) for curve in curves]
    inner = [curves[0][_RIM // 2], curves[1][0]]
    ears = [curve.clone() for curve in (curves[0][0], curves[1][_RIM // 2])]
    widest = float(head[:, 0][(template[:, 2] - 0.74).abs() < 0.01].abs().amax())
    ends = [
        torch.stack([middle[0] + side * widest * 0.93, middle[1] + 0.09, ear[2] + 0.004])
        for side, ear in zip((1, -1), ears, strict=True)
    ]
    straight = [torch.stack(inner), torch.stack([ears[0], ends[0]]), torch.stack([ears[1], ends[1]])]
    return torch.cat([*wires, *(_tube(line, radius, closed=False) for line in straight)])


def _tube(curve: Float32[Tensor, "points 3"], radius: float, *, closed: bool) -> Float32[Tensor, "vertices 3"]:
    ahead = curve.roll(-1, 0) - curve.roll(1, 0) if closed else (curve[-1:] - curve[:1]).expand_as(curve)
    ahead = functional.normalize(ahead, dim=-1)
    up = functional.normalize(
        torch.linalg.cross(ahead, torch.tensor([[0.05, 1.0, 0.08]], device=curve.device).expand_as(ahead)), dim=-1
    )
    side = torch.linalg.cross(ahead, up)
    around = torch.arange(_WIRE, device=curve.device) * (2 * math.pi / _WIRE)
    offset: Tensor = up[:, None] * torch.cos(around)[:, None] + side[:, None] * torch.sin(around)[:, None]
    return (curve[:, None] + radius * offset).reshape(-1, 3)
