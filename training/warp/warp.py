"""The warp prior: bend a shot so that its landmarks lie where the target's are (thin-plate spline, Bookstein 1989).

The spline maps *target* positions to *source* positions, so that every target pixel is sampled once and nothing is left
unpainted. Control points are the landmarks of eyes and mouth, the skin that the 68 tell of
(`training.warp.skin_surface`), skull points from a 3-D head fitted to them (so that hair and forehead move with the
face) and a frame of fixed points around the crop (so that the background stays).

Eyes and mouth open and shut by ways of their own, see `training.warp.openings`. Only the person in a shot is bent,
see `training.warp.matted_shot`.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.head_pose import LIPS, NUM_LANDMARKS, SKULL_POINTS, skull_points
from training.warp.eyes import Gaze, find_eyes
from training.warp.matted_shot import uncovered_background
from training.warp.mouth import find_mouth
from training.warp.openings import (
    Opening,
    landmarks_at_source_openness,
    per_sample,
    pixels_at_source_openness,
    points_at_source_openness,
    uncross_edges,
)
from training.warp.skin_surface import surface_points

# Misfit traded for smoothness, in units of the squared half-size of the crop. Points that touch in the target but not
# in the source ask two things of one place: a spline through both would fold, this one passes between them.
_SMOOTHING = 3.5e-4
# Of what moves with the head as a whole: eyes as a whole, skin and skull. A detector's points tremble by a percent of
# the eyes' distance, and a spline that followed each bent the features that tell who it is (docs/evaluation.md).
_SMOOTHING_OF_HEAD = 1e-2
_EYES = slice(36, 48)
# Across the crop: the spline is smooth, and solved at so many places only.
_SPLINE_PLACES = 48
# Where nothing moves any more, in half-sizes of the crop: further out than its border, so that a head that fills it
# can still move.
REACH = 1.5
# Left and right of the head, already at little more than its border: background does not follow a head that turns.
_SIDES = 1.1
_FRAME_POINTS_PER_SIDE = 7
_SKULL = slice(NUM_LANDMARKS, NUM_LANDMARKS + len(SKULL_POINTS))  # of the control points, after the landmarks


@dataclass(frozen=True)
class WarpField:
    """Where a target looks in a shot: lids and lips first (`training.warp.openings`), then a spline.

    The spline is smooth and may be sampled at any size; over the openings the way is computed for each pixel. Both
    have the face's units, in which the crop spans [-1, 1].
    """

    spline: Float[Tensor, "batch h w 2"]
    """Displacements of pixels that span [-extent, extent]."""
    source: Float[Tensor, "batch 68 2"]
    target: Float[Tensor, "batch 68 2"]
    """Landmarks, whose openings differ; where they are the same, the spline alone bends."""
    extent: float = 1.0
    """What the shot spans."""
    gaze: Gaze | None = None
    """How eyes turn; without, they look as the shot's."""

    def grid(self, size: int) -> Float[Tensor, "batch size size 2"]:
        """Where each of `size` x `size` pixels of the target looks, the shot's edges at -1 and 1."""
        settled = pixels_at_source_openness(self._places(size), self.extent, self._openings) / self.extent
        displacement = warp(self.spline.permute(0, 3, 1, 2), settled).permute(0, 2, 3, 1)
        return settled + displacement / self.extent

    def paint_openings(
        self, person: Float[Tensor, "batch 3 size size"], picture: Float[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, "batch 3 size size"]:
        """The bent person, painted where openings show what the shot's picture hides; in [-1, 1]."""
        size, places, painted = picture.shape[-1], self._places(picture.shape[-1]), person.clone()
        for opening in (opening for opening in self._openings if opening.paints):
            rows, columns = opening.block(size, self.extent)
            layers = per_sample(opening.paint_coverage, places[rows, columns], len(picture)).unbind(3)
            for paint, layer in zip(opening.paints, layers, strict=True):
                share, light = layer[:, None].unbind(-1)
                own = warp(picture, paint.at[:, None] / self.extent).mean(dim=3, keepdim=True)
                grey = own.mean(dim=1, keepdim=True)
                colour = light * (grey + paint.saturation * (own - grey) + 1) - 1
                block = painted[..., rows, columns]
                painted[..., rows, columns] = block + share * (colour - block)
        return painted

    @cached_property
    def _openings(self) -> list[Opening]:
        return find_openings(self.source, self.target, self.gaze)

    def _places(self, size: int) -> Float[Tensor, "size size 2"]:
        return self.extent * identity_grid(size, self.spline.device)

    @property
    def border(self) -> int:
        """How many of the spline's pixels lie beyond each edge of the crop."""
        size = self.spline.shape[1]
        return (size - round(size / self.extent)) // 2

    @property
    def inner(self) -> "WarpField":
        """Of the crop alone."""
        within = slice(self.border, self.spline.shape[1] - self.border)
        return replace(self, spline=self.spline[:, within, within], extent=1.0)

    @classmethod
    def smooth(cls, spline: Float[Tensor, "batch h w 2"]) -> "WarpField":
        """By a spline alone, eyes and mouth too."""
        nowhere = spline.new_zeros(len(spline), 68, 2)
        return cls(spline, nowhere, nowhere)

    def __getitem__(self, index: Tensor | slice) -> "WarpField":
        gaze = None if self.gaze is None else self.gaze[index]
        return WarpField(self.spline[index], self.source[index], self.target[index], self.extent, gaze)


@dataclass(frozen=True)
class WarpedShot:
    """A shot bent to the target's landmarks, its own landmark image bent along, which says what was stretched, and
    what they are bent from and how: a generator may move it better. Pictures in [-1, 1], their mattes in [0, 1]."""

    shot: Float[Tensor, "batch 7 fine fine"]
    field: WarpField
    frame: Float[Tensor, "batch 4 h w"]
    landmark_image: Float[Tensor, "batch 3 h w"]

    def __getitem__(self, index: Tensor | slice) -> "WarpedShot":
        return WarpedShot(self.shot[index], self.field[index], self.frame[index], self.landmark_image[index])


def find_openings(
    source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"], gaze: Gaze | None = None
) -> list[Opening]:
    """Both eyes and the mouth, of landmarks `uncross_edges`, in any unit."""
    return [*find_eyes(source, target, gaze), find_mouth(source, target)]


def control_points(landmarks: Float[np.ndarray, "*batch 68 2"], size: int) -> Float[np.ndarray, "*batch points 2"]:
    """Landmarks in pixels of a `size` px crop, skull and frame -> [-1, 1] across its edges."""
    points = np.concatenate([np.asarray(landmarks, np.float64), skull_points(landmarks)], axis=-2)
    normalised = unit_points(points, size)
    still = np.broadcast_to(_still_frame(), (*normalised.shape[:-2], *_still_frame().shape))
    return np.concatenate([normalised, still], axis=-2).astype(np.float32)


def unit_points(points: Float[np.ndarray, "*batch points 2"], size: int) -> Float[np.ndarray, "*batch points 2"]:
    """Pixel centres of a `size` px crop -> [-1, 1] across its edges."""
    return (points + 0.5) * (2 / size) - 1


@lru_cache(maxsize=1)
def _still_frame() -> Float[np.ndarray, "frame 2"]:
    side = np.linspace(-REACH, REACH, _FRAME_POINTS_PER_SIDE)
    far = np.full_like(side, REACH)
    near = np.full_like(side, _SIDES)
    lines = ((side, -far), (side, far), (-far, side), (far, side), (-near, side), (near, side))
    return np.unique(np.concatenate([np.stack(line, -1) for line in lines]), axis=0)


def sampling_grid(
    source: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    size: int,
    *,
    extent: float = 1.0,
    smoothing: Float[Tensor, " points"],
) -> Float[Tensor, "batch size size 2"]:
    """Where each pixel of the target looks in the source, both in [-1, 1] (`align_corners=False`).

    `size` pixels span [-extent, extent]: the crop, or with `REACH` all that moves.

    Solved in float32 as displacements, so that a target that equals its source gives exactly the identity.

    Args:
        smoothing: how far each of the points may be missed: 0 to be met.
    """
    source, target = source.float(), target.float()
    batch, num_points, _ = target.shape
    ones = target.new_ones(batch, num_points, 1)
    polynomial = torch.cat([ones, target], dim=2)
    kernel = _kernel(torch.cdist(target, target, compute_mode="donot_use_mm_for_euclid_dist"))
    kernel = kernel + torch.diag(smoothing)
    system = torch.cat(
        [
            torch.cat([kernel, polynomial], dim=2),
            torch.cat([polynomial.transpose(1, 2), target.new_zeros(batch, 3, 3)], dim=2),
        ],
        dim=1,
    )
    wanted = torch.cat([source - target, target.new_zeros(batch, 3, 2)], dim=1)
    weights = _solve(system, wanted)
    grid = identity_grid(size, target.device) * extent
    pixels = grid.reshape(1, -1, 2).expand(batch, -1, -1)
    basis = _kernel(torch.cdist(pixels, target))
    affine = weights[:, None, num_points] + pixels @ weights[:, num_points + 1 :]
    displacement = basis @ weights[:, :num_points] + affine
    sampled: Tensor = grid + displacement.view(batch, size, size, 2)
    return sampled


def _solve(
    systems: Float[Tensor, "batch size size"], wanted: Float[Tensor, "batch size 2"]
) -> Float[Tensor, "batch size 2"]:
    """One by one on a CPU: after `torch.set_num_threads(2)` MKL's factors of a batch of 200 equations and more have
    pivots that are none, and torch refuses them (torch 2.13, oneMKL 2024.2)."""
    if systems.device.type != "cpu":
        solved: Tensor = torch.linalg.solve(systems, wanted)
        return solved
    return torch.stack([torch.linalg.solve(*each) for each in zip(systems, wanted, strict=True)])


def warp_field(
    source: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    *,
    extent: float = 1.0,
    gaze: Gaze | None = None,
) -> WarpField:
    """How a shot with `source` is bent for a target, both `control_points`."""
    faces = source[:, :NUM_LANDMARKS], target[:, :NUM_LANDMARKS]
    skins = surface_points(faces[0]), surface_points(faces[1])
    ordered = uncross_edges(faces[0]), uncross_edges(faces[1])
    openings = find_openings(*ordered)
    ours = _bending_points(ordered[0], skins[0], source)
    wanted = _bending_points(
        landmarks_at_source_openness(ordered[1], openings), points_at_source_openness(skins[1], openings), target
    )
    smoothing = ours.new_full((ours.shape[1],), _SMOOTHING_OF_HEAD)
    smoothing[-len(_still_frame()) - (LIPS.stop - LIPS.start) :] = _SMOOTHING
    grid = sampling_grid(ours, wanted, round(_SPLINE_PLACES * extent), extent=extent, smoothing=smoothing)
    return WarpField(displacement(grid, extent), *ordered, extent, gaze)


def _bending_points(
    landmarks: Float[Tensor, "batch 68 2"],
    skin: Float[Tensor, "batch skin 2"],
    control: Float[Tensor, "batch points 2"],
) -> Float[Tensor, "batch bending 2"]:
    """What the spline of `warp_field` goes by: first what moves with the head, then what it meets more closely."""
    still = control[:, -len(_still_frame()) :]
    return torch.cat([landmarks[:, _EYES], skin, control[:, _SKULL], landmarks[:, LIPS], still], dim=1)


def spline_field(
    source: Float[Tensor, "batch points 2"], target: Float[Tensor, "batch points 2"], size: int
) -> WarpField:
    """The same by a spline through the control points alone, solved for `size` pixels, as far as eyes and mouth follow
    it."""
    source, target = (_in_order(points) for points in (source, target))
    smoothing = source.new_full((source.shape[1],), _SMOOTHING)
    smoothing[: _EYES.start] = smoothing[_SKULL] = _SMOOTHING_OF_HEAD
    return WarpField.smooth(displacement(sampling_grid(source, target, size, smoothing=smoothing)))


def _in_order(points: Float[Tensor, "batch points 2"]) -> Float[Tensor, "batch points 2"]:
    return torch.cat([uncross_edges(points[:, :NUM_LANDMARKS]), points[:, NUM_LANDMARKS:]], dim=1)


def identity_grid(size: int, device: torch.device) -> Float[Tensor, "size size 2"]:
    """The grid that samples every pixel from itself."""
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def displacement(grid: Float[Tensor, "batch h w 2"], extent: float = 1.0) -> Float[Tensor, "batch h w 2"]:
    """How far from itself each pixel is sampled by a grid over [-extent, extent]."""
    return grid - extent * identity_grid(grid.shape[1], grid.device)


def warp(
    image: Float[Tensor, "batch channels h w"],
    grid: Float[Tensor, "batch h2 w2 2"],
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "batch channels h2 w2"]:
    """Sample a picture at a grid; beyond the border its edge continues. `bicubic` is sharper, and may overshoot."""
    return F.grid_sample(image, grid.to(image.dtype), mode=mode, padding_mode="border", align_corners=False)


def warp_person(
    shot: Float[Tensor, "batch 7 size size"], field: WarpField, mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Float[Tensor, "batch 4 size size"]:
    """Bend the person in a shot; what lies behind stands still. The picture, and its matte.

    Where openings show what the shot's hide, they are painted in the colour beside (`WarpField.paint_openings`).
    """
    size = shot.shape[-1]
    person, matte = warp(shot[:, :4], field.grid(size), mode).split([3, 1], dim=1)
    matte, person = matte.clamp(0, 1), person.clamp(-1, 1)
    person = field.paint_openings(person, shot[:, :3])
    still = uncovered_background(shot, matte)
    return torch.cat([still + matte * (person - still), matte], dim=1)


def warp_full_resolution(
    shot: Float[Tensor, "batch 7 size size"], field: WarpField
) -> Float[Tensor, "batch 3 size size"]:
    """A shot as it is shown, at its own size."""
    return warp_person(shot, field, "bicubic")[:, :3]


def warp_shot(
    shot: Float[Tensor, "batch 7 fine fine"],
    landmark_image: Float[Tensor, "batch 3 h w"],
    source_points: Float[Tensor, "batch points 2"],
    target_points: Float[Tensor, "batch points 2"],
) -> WarpedShot:
    """Bend a shot and its landmark image so that `source_points` come to lie on `target_points`; see `warp_with_field`."""
    return warp_with_field(shot, landmark_image, warp_field(source_points, target_points))


def warp_with_field(
    shot: Float[Tensor, "batch 7 fine fine"], landmark_image: Float[Tensor, "batch 3 h w"], field: WarpField
) -> WarpedShot:
    """A shot and its landmark image, bent; the shot may be finer, see `warp_and_downsample`."""
    size = landmark_image.shape[-1]
    return WarpedShot(shot, field, warp_and_downsample(shot, field, size), warp(landmark_image, field.grid(size)))


def warp_and_downsample(
    shot: Float[Tensor, "batch 7 fine fine"], field: WarpField, size: int
) -> Float[Tensor, "batch 4 h w"]:
    """A shot, its person bent.

    It may be a whole multiple as large as what is wanted. Then it is sampled at its own size and averaged: between the
    pixels of a small picture there is only blur, which a network would spend itself on undoing.
    """
    fine = shot.shape[-1]
    return F.avg_pool2d(warp_person(shot, field), fine // size)


def _kernel(distance: Tensor) -> Tensor:
    """r^2 log r, zero at zero."""
    return distance.square() * torch.log(distance.clamp_min(1e-6))
