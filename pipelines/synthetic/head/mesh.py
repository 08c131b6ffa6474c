"""The mesh of a whole head: skin, eyes, teeth, hair, glasses; its shape for a person, its expressions and pose.

The triangles are the same for everybody, so that frames of different people form one batch. Parts that a person does
not have are collapsed into a point.
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
from pipelines.synthetic.head import glasses, hair
from pipelines.synthetic.head.arkit_actions import ACTIONS, GAZE_DEGREES, action_index
from pipelines.synthetic.head.head_model import load_head_model
from pipelines.synthetic.head.person import Person
from pipelines.synthetic.head.skin import beard_masks
from pipelines.synthetic.head.teeth import TeethPlacement

EYES, HAIR, BUN, GLASSES = range(4, 8)
"""Parts in addition to those of `head_model`."""

_RINGS, _SECTORS = 9, 16  # of an eyeball's front half
_NECKLINE = 0.585  # height on the template in metres; clothes are below
_JAW_GAIN = 1.5
_PIVOT = (0.0, 0.10, -0.085)  # centre of head rotation in metres, relative to the midpoint of the eyes


@dataclass(frozen=True)
class Rest:
    """Heads of people with a neutral expression, facing forwards; metres."""

    vertices: Float32[Tensor, "people vertices 3"]
    eyes: Float32[Tensor, "people 2 4"]  # centre and radius of each eyeball
    turns: Float32[Tensor, "people vertices"]  # share of the head's rotation that a vertex takes

    def __getitem__(self, rows: Tensor) -> Rest:
        return Rest(self.vertices[rows], self.eyes[rows], self.turns[rows])


class HeadMesh:
    """Triangles of all heads, and functions that shape and pose their vertices."""

    def __init__(self, device: str = "cpu") -> None:
        model = load_head_model().to(device)
        self.model, self.device = model, device
        self.num_head = len(model.template)
        directions, ball = _half_ball()
        self._directions = directions.to(device)
        self._scalp = hair.bind_scalp(load_head_model())
        bun, round_bun = _ball(8, 12)
        self._bun = bun.to(device)
        wire = glasses.faces()
        blocks: list[tuple[Tensor, int, int]] = []
        start = self.num_head
        self.block: dict[int, slice] = {}
        for part, number, faces in (
            (EYES, 2 * len(directions), torch.cat([ball, ball + len(directions)])),
            (HAIR, hair.NUM_VERTICES, hair.faces()),
            (BUN, len(bun), round_bun),
            (GLASSES, glasses.NUM_VERTICES, wire),
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
        self._teeth = TeethPlacement(model)
        self._actions = self._teeth.fit_actions(model.actions).flatten(1)
        # The model's jaw opens less than MediaPipe's jawOpen means: in the real clips, jawOpen 1 parts the lips by 0.74
        # to 0.92 of the distance between the eyes, in the model by 0.48 to 0.56. mouthClose has to close the same gap.
        self._actions[[action_index("jawOpen"), action_index("mouthClose")]] *= _JAW_GAIN

    @property
    def displacements(self) -> Float32[Tensor, "52 vertices 3"]:
        """Displacement of the head's own vertices by each action at 1, metres."""
        return self._actions.reshape(len(ACTIONS), self.num_head, 3)

    def _coordinates(self) -> Float32[Tensor, "vertices 4"]:
        """Return texture coordinates: position on the template (and 1 in the mouth), in an eye or in the hair."""
        values = torch.zeros(self.num_vertices, 4)
        values[: self.num_head, :3] = self.model.template.cpu()
        values[: self.num_head, 3] = self.model.cavity.cpu()
        values[self.block[EYES], :3] = self._directions.cpu().repeat(2, 1)
        values[self.block[HAIR], :3] = hair.coordinates()
        values[self.block[BUN], :3] = self._bun.cpu()
        return values

    def rest(self, people: Sequence[Person]) -> Rest:
        """Build the heads of people at rest."""
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
            self._teeth.place(head[row], *person.teeth)
            length = 0.008 * person.skin.beard * self._beard + 0.004 * person.skin.moustache * self._moustache
            vertices[row, : self.num_head] = head[row] + normals[row] * (length + 0.006 * self._dressed)[:, None]
            grown, held = hair.place_hair(person, head[row], normals[row], self._scalp)
            vertices[row, self.block[HAIR]], turns[row, self.block[HAIR]] = grown, held
            vertices[row, self.block[BUN]] = hair.place_bun(person, grown, self._bun)
            vertices[row, self.block[GLASSES]] = glasses.wires(person, eyes[row], head[row], model.template)
        vertices[:, self.block[EYES]] = self._eye_vertices(eyes, torch.zeros(len(people), 2, 2, device=self.device))
        return Rest(vertices, eyes, turns)

    def move(
        self, rest: Rest, actions: Float32[Tensor, "frames 52"], angles: Float32[Tensor, "frames 3"]
    ) -> Float32[Tensor, "frames vertices 3"]:
        """Apply expressions, gaze and head pose.

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
        """Rotate the eyeballs by the gaze: yaw to the person's left and pitch upwards, radians."""
        (sy, sp), (cy, cp) = torch.sin(looks).unbind(-1), torch.cos(looks).unbind(-1)
        x, y, z = self._directions.T
        pitched_y, pitched_z = y * cp[..., None] + z * sp[..., None], z * cp[..., None] - y * sp[..., None]
        turned = torch.stack(
            [x * cy[..., None] - pitched_y * sy[..., None], pitched_y * cy[..., None] + x * sy[..., None], pitched_z],
            dim=-1,
        )
        return (eyes[:, :, None, :3] + turned * eyes[:, :, None, 3:]).flatten(1, 2)


def gaze(actions: Float32[Tensor, "frames 52"]) -> Float32[Tensor, "frames 2 2"]:
    """Return yaw (to the person's left) and pitch (up) of the left and the right eye, radians."""
    value = {name: actions[:, index] for index, name in enumerate(ACTIONS)}
    rows = []
    for side, outwards in (("Left", 1.0), ("Right", -1.0)):
        out = value[f"eyeLookOut{side}"] * GAZE_DEGREES["Out"] - value[f"eyeLookIn{side}"] * GAZE_DEGREES["In"]
        up = value[f"eyeLookUp{side}"] * GAZE_DEGREES["Up"] - value[f"eyeLookDown{side}"] * GAZE_DEGREES["Down"]
        rows.append(torch.stack([outwards * out, up], dim=-1))
    return torch.deg2rad(torch.stack(rows, dim=1))


def vertex_normals(
    vertices: Float32[Tensor, "frames vertices 3"], faces: Int64[Tensor, "triangles 3"]
) -> Float32[Tensor, "frames vertices 3"]:
    """Return outward unit normals, with triangles weighted by area."""
    corners = vertices[:, faces]
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], normals)
    return functional.normalize(total, dim=-1)


def _turn(vertices: Tensor, turns: Tensor, angles: Float[Tensor, "frames 3"], pivot: Tensor) -> Tensor:
    """Rotate each vertex by its share of the head's rotation, about the rotation's axis (Rodrigues' formula)."""
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
    """Return the rotation vector (axis times angle) of pitch, then yaw, then roll, in the head's axes."""
    yaw, pitch, roll = angles.double().unbind(-1)
    # In the picture, the head's x points to the right, y away from the camera and z up.
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
    """Return centre and radius of the eyeballs, without the bulging corneas of the mesh's own eyes."""
    points = head[:, rings]  # people 2 ring 3
    low, high = points.amin(dim=2), points.amax(dim=2)
    radius = ((high - low)[..., 0] + (high - low)[..., 2]) / 4
    middle = (low + high) / 2
    middle[..., 1] = high[..., 1] - radius
    return torch.cat([middle, radius[..., None]], dim=-1)


def _half_ball() -> tuple[Float32[Tensor, "vertices 3"], Int64[Tensor, "triangles 3"]]:
    """Return unit directions within 110 degrees of straight ahead (-y), and triangles that face outwards."""
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
