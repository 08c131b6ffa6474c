"""Apply a warp field to a shot: only the person is warped, over the background (`training.warp.matted_shot`)."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.warp.field import WarpField, warp_field
from training.warp.matted_shot import uncovered_background
from training.warp.spline import displacement, identity_grid, warp


@runtime_checkable
class WarpInput(Protocol):
    """What a generator with a warp prior needs of a batch of warped shots; `WarpedShot` says what each is."""

    @property
    def field(self) -> WarpField: ...
    @property
    def frame(self) -> Float[Tensor, "batch 4 h w"]: ...
    @property
    def landmark_image(self) -> Float[Tensor, "batch 3 h w"]: ...
    @property
    def matte(self) -> Float[Tensor, "batch 1 h w"]: ...
    def moved(self, field: WarpField) -> Float[Tensor, "batch 4 h w"]: ...
    def displacement(self, field: WarpField) -> Float[Tensor, "batch h w 2"]: ...


@dataclass(frozen=True)
class WarpedShot:
    """A shot, the field to warp it with, and the results; frames are in [-1, 1], mattes in [0, 1]."""

    shot: Float[Tensor, "batch 7 fine fine"]
    field: WarpField
    frame: Float[Tensor, "batch 4 h w"]
    """The warped frame and matte."""
    landmark_image: Float[Tensor, "batch 3 h w"]
    """The shot's landmark image, warped: it shows what was stretched."""

    @property
    def size(self) -> int:
        """Height and width of the warped frame."""
        return self.frame.shape[-1]

    def moved(self, field: WarpField) -> Float[Tensor, "batch 4 h w"]:
        """Return the frame and matte of the shot warped with another field."""
        return warp_and_downsample(self.shot, field, self.size)

    def displacement(self, field: WarpField) -> Float[Tensor, "batch h w 2"]:
        """Return how far a field moves each pixel, in half-sizes of the crop."""
        return displacement(field.grid(self.size))

    @property
    def matte(self) -> Float[Tensor, "batch 1 h w"]:
        """The shot's own matte at the size of the warped frame."""
        return F.adaptive_avg_pool2d(self.shot[:, 3:4], self.size)

    def __getitem__(self, index: Tensor | slice) -> "WarpedShot":
        return WarpedShot(self.shot[index], self.field[index], self.frame[index], self.landmark_image[index])


def warp_person(
    shot: Float[Tensor, "batch 7 size size"],
    field: WarpField,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
    half_pixels: Float[Tensor, "batch 4 finer finer"] | None = None,
) -> Float[Tensor, "batch 4 size size"]:
    """Warp the person in a shot over its static background; return the frame and its matte.

    Where eyes and mouth show what the shot hides, they are painted (`WarpField.paint_openings`).

    Args:
        half_pixels: `sample_half_pixels` of the shot, which are then sampled bilinearly.
    """
    person, matte = _sample(shot, field.grid(shot.shape[-1]), mode, half_pixels)
    person = field.paint_openings(person, shot[:, :3])
    background = uncovered_background(shot, matte)
    return torch.cat([background + matte * (person - background), matte], dim=1)


def _sample(
    shot: Float[Tensor, "batch 7 size size"],
    grid: Float[Tensor, "batch size size 2"],
    mode: Literal["bilinear", "bicubic"],
    half_pixels: Float[Tensor, "batch 4 finer finer"] | None,
) -> tuple[Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 1 size size"]]:
    """Return frame and matte of a shot, or of its half pixels, at a grid."""
    size = shot.shape[-1]
    if half_pixels is None:
        sampled = warp(shot[:, :4], grid, mode)
    else:
        sampled = warp(half_pixels, grid * (2 * size / (2 * size - 1)))
    person, matte = sampled.split([3, 1], dim=1)
    return person.clamp(-1, 1), matte.clamp(0, 1)


def fill_mirrored(
    frames: Float[Tensor, "batch 3 size size"],
    shot: Float[Tensor, "batch 7 size size"],
    field: WarpField,
    half_pixels: Float[Tensor, "batch 4 finer finer"] | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """Replace what frames of a warped shot show of skin that the shot hides by the mirrored half of the face.

    After the generator: it was trained on warps without, and paints over what it does not know.
    """
    if field.mirrored is None:
        return frames
    size = (shot.shape[-1], shot.shape[-1])
    person, matte = _sample(shot, field.mirrored_grid(size[0]), "bicubic", half_pixels)
    background = uncovered_background(shot, torch.zeros_like(shot[:, 3:4]))
    filled = background + matte * (field.mirrored.light(person) - background)
    share = F.interpolate(field.mirrored.share[:, None], size=size, mode="bilinear", align_corners=False)
    return frames + share * (filled - frames)


def sample_half_pixels(shot: Float[Tensor, "batch 7 size size"]) -> Float[Tensor, "batch 4 finer finer"]:
    """Return frame and matte of a shot at the centres of its pixels and halfway between, by cubic interpolation.

    Linear sampling of them is as sharp as cubic sampling of the shot, at the price of the former.
    """
    size = shot.shape[-1]
    finer = 2 * size - 1
    grid = identity_grid(finer, shot.device) * ((2 * size - 1) / (2 * size))
    return warp(shot[:, :4], grid.expand(len(shot), -1, -1, -1), "bicubic")


def warp_full_resolution(
    shot: Float[Tensor, "batch 7 size size"],
    field: WarpField,
    half_pixels: Float[Tensor, "batch 4 finer finer"] | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """Warp a shot at its own size, for display: with bicubic sampling, or of its `half_pixels`."""
    return warp_person(shot, field, "bicubic", half_pixels)[:, :3]


def warp_shot(
    shot: Float[Tensor, "batch 7 fine fine"],
    landmark_image: Float[Tensor, "batch 3 h w"],
    source_points: Float[Tensor, "batch points 2"],
    target_points: Float[Tensor, "batch points 2"],
    on_host: tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points 2"]] | None = None,
) -> WarpedShot:
    """Warp a shot and its landmark image so that `source_points` move to `target_points`; see `warp_with_field`.

    Args:
        on_host: both points on the CPU, so that this does not wait for another device; see `warp_field`.
    """
    return warp_with_field(shot, landmark_image, warp_field(source_points, target_points, on_host=on_host))


def warp_with_field(
    shot: Float[Tensor, "batch 7 fine fine"], landmark_image: Float[Tensor, "batch 3 h w"], field: WarpField
) -> WarpedShot:
    """Warp a shot and its landmark image; the shot may be larger, see `warp_and_downsample`."""
    size = landmark_image.shape[-1]
    return WarpedShot(shot, field, warp_and_downsample(shot, field, size), warp(landmark_image, field.grid(size)))


def warp_and_downsample(
    shot: Float[Tensor, "batch 7 fine fine"], field: WarpField, size: int
) -> Float[Tensor, "batch 4 h w"]:
    """Warp a shot whose side is a multiple of `size`, then average down to `size`.

    Sampling between the pixels of a small image would blur it, and the network would have to learn to undo that.
    """
    fine = shot.shape[-1]
    return F.avg_pool2d(warp_person(shot, field), fine // size)
