"""The warp prior's field: where each target pixel is sampled in a shot.

Eyes and mouth are opened or closed first (`training.warp.openings`); then a thin-plate spline moves all else. The
spline's control points are the landmarks of eyes and mouth, points of the skin that follow from all 68
(`training.warp.skin_surface`), points of the skull, and a frame of fixed points (`training.warp.control_points`).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.head_pose import LIPS, NUM_LANDMARKS, SKULL_POINTS
from training.warp.control_points import num_fixed_points
from training.warp.eyes import Gaze, find_eyes
from training.warp.hidden_half import MirroredHalf, mirrored_half
from training.warp.mouth import find_mouth
from training.warp.openings import (
    Opening,
    PaintLayer,
    PixelShifts,
    landmarks_at_source_openness,
    paint_layers,
    pixel_shifts,
    points_at_source_openness,
    uncross_edges,
)
from training.warp.skin_surface import surface_points
from training.warp.spline import displacement, identity_grid, sampling_grid, warp

# Regularisation of the spline, in units of the squared half-size of the crop: trades the misfit at control points for
# smoothness. Without it, points that coincide in the target but not in the source would fold the spline.
_SMOOTHING = 3.5e-4
# For points that move with the head (eyes, skin, skull): a detector's landmarks jitter by a percent of the eyes'
# distance, and a spline that met each would distort the features that a person is recognised by (docs/experiments.md).
_HEAD_SMOOTHING = 1e-2
_SPLINE_SIZE = 48  # the spline is smooth, so it is evaluated at this many points across the crop and interpolated
_EYES = slice(36, 48)
_SKULL = slice(NUM_LANDMARKS, NUM_LANDMARKS + len(SKULL_POINTS))  # of the control points, after the landmarks


@dataclass(frozen=True)
class WarpField:
    """Sampling positions of targets in shots: lids and lips first (`training.warp.openings`), then a spline.

    The spline is smooth and may be interpolated to any size; the displacement of openings is computed per pixel. Both
    are in units in which the crop spans [-1, 1].
    """

    spline: Float[Tensor, "batch h w 2"]
    """Displacements of pixels that span [-extent, extent]."""
    source: Float[Tensor, "batch 68 2"]
    target: Float[Tensor, "batch 68 2"]
    """Landmarks; eyes and mouth are moved where they differ in openness."""
    extent: float = 1.0
    """Half of the shot's side; 1: the shot is the crop."""
    gaze: Gaze | None = None
    """Turn of the eyes; None: the shot's gaze."""
    mirrored: MirroredHalf | None = None
    """What comes into view from the other half of the face; None: nothing."""
    on_host: tuple[Float[Tensor, "batch 68 2"], Float[Tensor, "batch 68 2"]] | None = None
    """`source` and `target` on the CPU, which tell the pixels of eyes and mouth without waiting for another device."""

    def grid(self, size: int) -> Float[Tensor, "batch size size 2"]:
        """Return the sampling position of each of `size` x `size` target pixels; the shot's edges are at -1 and 1."""
        places = self._places(size)
        opened = places.repeat(len(self.spline), 1, 1, 1)
        for rows, columns, shifts in self.pixel_shifts(size):
            opened[:, rows, columns] += shifts
        opened = opened / self.extent
        displacement = warp(self.spline.permute(0, 3, 1, 2), opened).permute(0, 2, 3, 1)
        return opened + displacement / self.extent

    def mirrored_grid(self, size: int) -> Float[Tensor, "batch size size 2"]:
        """Return the sampling positions of the mirrored half, as `grid` does. There must be one."""
        assert self.mirrored is not None
        spline = F.interpolate(self.mirrored.spline.permute(0, 3, 1, 2), size=(size, size), mode="bilinear")
        return (self._places(size) + spline.permute(0, 2, 3, 1)) / self.extent

    def paint_openings(
        self, person: Float[Tensor, "batch 3 size size"], picture: Float[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, "batch 3 size size"]:
        """Paint the warped person where eyes and mouth show what the shot's frame hides; all in [-1, 1]."""
        painted = person.clone()
        for rows, columns, paint, at, coverage, light in self.paint_layers(picture.shape[-1]):
            own = warp(picture, at[:, None]).mean(dim=3, keepdim=True)
            colour = light[:, None] * (paint.tint(own) + 1) - 1
            block = painted[..., rows, columns]
            painted[..., rows, columns] = block + coverage[:, None] * (colour - block)
        return painted

    def pixel_shifts(self, size: int) -> list[PixelShifts]:
        """Return how far eyes and mouth move the pixels of a target of `size` x `size`, before the spline."""
        return pixel_shifts(self._places(size), self._openings, self._blocks(size))

    def paint_layers(self, size: int) -> list[PaintLayer]:
        """Return what is painted in eyes and mouth of a target of `size` x `size` pixels, in this order."""
        return paint_layers(self._places(size), self.extent, self._openings, self._blocks(size))

    @cached_property
    def _openings(self) -> list[Opening]:
        return find_openings(self.source, self.target, self.gaze)

    def _blocks(self, size: int) -> list[tuple[slice, slice]]:
        """Return the rows and columns of each opening."""
        if self.on_host is None:
            return [opening.block(size, self.extent) for opening in self._openings]
        known, key = self._known_blocks, (size, self.extent)
        if key not in known:
            known[key] = [opening.block(size, self.extent) for opening in find_openings(*self.on_host)]
        return known[key]

    @cached_property
    def _known_blocks(self) -> dict[tuple[int, float], list[tuple[slice, slice]]]:
        return {}

    def _places(self, size: int) -> Float[Tensor, "size size 2"]:
        return self.extent * identity_grid(size, self.spline.device)

    @property
    def border(self) -> int:
        """Number of the spline's pixels beyond each edge of the crop."""
        size = self.spline.shape[1]
        return (size - round(size / self.extent)) // 2

    @property
    def inner(self) -> "WarpField":
        """The field restricted to the crop, without the mirrored half."""
        within = slice(self.border, self.spline.shape[1] - self.border)
        return self._changed(spline=self.spline[:, within, within], extent=1.0, mirrored=None)

    def with_spline(self, spline: Float[Tensor, "batch h w 2"]) -> "WarpField":
        """Return the field with another spline; eyes, mouth and mirrored half are the same."""
        return self._changed(spline=spline)

    def _changed(self, **changes: Any) -> "WarpField":
        field = replace(self, **changes)
        # They depend on none of the changes.
        field.__dict__.update(_openings=self._openings, _known_blocks=self._known_blocks)
        return field

    @classmethod
    def spline_only(cls, spline: Float[Tensor, "batch h w 2"]) -> "WarpField":
        """Return a field without separate motion of eyes and mouth."""
        same = spline.new_zeros(len(spline), 68, 2)
        return cls(spline, same, same)

    def __getitem__(self, index: Tensor | slice) -> "WarpField":
        gaze = None if self.gaze is None else self.gaze[index]
        mirrored = None if self.mirrored is None else self.mirrored[index]
        points = self.source[index], self.target[index]
        on_host = None
        if self.on_host is not None and isinstance(index, slice):
            on_host = self.on_host[0][index], self.on_host[1][index]
        return WarpField(self.spline[index], *points, self.extent, gaze, mirrored, on_host)


def find_openings(
    source: Float[Tensor, "batch 68 2"], target: Float[Tensor, "batch 68 2"], gaze: Gaze | None = None
) -> list[Opening]:
    """Return both eyes and the mouth, from landmarks after `uncross_edges`, in any unit."""
    return [*find_eyes(source, target, gaze), find_mouth(source, target)]


def warp_field(
    source: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    *,
    extent: float = 1.0,
    gaze: Gaze | None = None,
    mirrored_gain: Float[Tensor, "batch 3"] | None = None,
    on_host: tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points 2"]] | None = None,
) -> WarpField:
    """Return the field that warps shots to targets, given the `control_points` of both.

    Args:
        mirrored_gain: `training.warp.mirrored_light.mirrored_gain` of each shot, to fill what comes into view from the
            other half of the face; None: not.
        on_host: `source` and `target` on the CPU; given, nothing waits for another device.
    """
    faces = source[:, :NUM_LANDMARKS], target[:, :NUM_LANDMARKS]
    skins = surface_points(faces[0]), surface_points(faces[1])
    ordered = uncross_edges(faces[0]), uncross_edges(faces[1])
    openings = find_openings(*ordered)
    ours = _spline_points(ordered[0], skins[0], source)
    wanted = _spline_points(
        landmarks_at_source_openness(ordered[1], openings), points_at_source_openness(skins[1], openings), target
    )
    smoothing = ours.new_full((ours.shape[1],), _HEAD_SMOOTHING)
    smoothing[-num_fixed_points() - (LIPS.stop - LIPS.start) :] = _SMOOTHING
    size = round(_SPLINE_SIZE * extent)
    grid = sampling_grid(ours, wanted, size, extent=extent, smoothing=smoothing)
    mirrored = None if mirrored_gain is None else mirrored_half(source, target, mirrored_gain, size, extent)
    faces_on_host = None
    if on_host is not None:
        faces_on_host = uncross_edges(on_host[0][:, :NUM_LANDMARKS]), uncross_edges(on_host[1][:, :NUM_LANDMARKS])
    return WarpField(displacement(grid, extent), *ordered, extent, gaze, mirrored, faces_on_host)


def _spline_points(
    landmarks: Float[Tensor, "batch 68 2"],
    skin: Float[Tensor, "batch skin 2"],
    control: Float[Tensor, "batch points 2"],
) -> Float[Tensor, "batch bending 2"]:
    """Return the spline's control points: first those with `_HEAD_SMOOTHING`, then lips and fixed points."""
    fixed = control[:, -num_fixed_points() :]
    return torch.cat([landmarks[:, _EYES], skin, control[:, _SKULL], landmarks[:, LIPS], fixed], dim=1)


def spline_field(
    source: Float[Tensor, "batch points 2"], target: Float[Tensor, "batch points 2"], size: int
) -> WarpField:
    """Return a field of a spline only, evaluated at `size` x `size` points; eyes and mouth follow the spline."""
    source, target = (_uncross(points) for points in (source, target))
    smoothing = source.new_full((source.shape[1],), _SMOOTHING)
    smoothing[: _EYES.start] = smoothing[_SKULL] = _HEAD_SMOOTHING
    return WarpField.spline_only(displacement(sampling_grid(source, target, size, smoothing=smoothing)))


def _uncross(points: Float[Tensor, "batch points 2"]) -> Float[Tensor, "batch points 2"]:
    return torch.cat([uncross_edges(points[:, :NUM_LANDMARKS]), points[:, NUM_LANDMARKS:]], dim=1)
