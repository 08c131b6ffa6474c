"""Fill what a shot hides of a turning head from the other half of the face, mirrored.

The spline of `training.warp.field` stretches the last visible skin over a cheek that turns into view. Where the head's
surface is hidden in the shot, comes into view, and its mirror image is visible in the shot, the mirror image is sampled
instead: the shot, reflected about the face's axis, moved by a spline of its own. The surface is an ellipsoid that
approximates the mean head of the synthetic people, without ears and nose; its visibility has a closed form.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.head_pose import MIRRORED, NUM_LANDMARKS, SKULL_POINTS, Pose, fit_pose
from training.images import smooth_step
from training.warp.control_points import num_fixed_points
from training.warp.skin_surface import surface_points
from training.warp.spline import displacement, identity_grid, sampling_grid

# Centre and half-axes of the head, centimetres, in the axes of `pipelines.faces.head_pose`.
HEAD_CENTRE: Float[np.ndarray, "3"] = np.array([0.0, -2.1, 3.9])
HEAD_AXES: Float[np.ndarray, "3"] = np.array([7.6, 14.0, 9.4])
# Cosines of the angle between the skin's normal and the direction to the camera.
_HIDDEN, _SEEN = -0.1, 0.4  # the skin is taken for hidden below, for visible above, for partly visible between them
_NEW = 0.15, 0.2  # least gain of the cosine from shot to target, 9 degrees at the outline, and the fade above it
_BEYOND = 0.12  # distance from the outline, relative to its radius, over which the fill fades out
# Height above the head's middle, and depth below it, relative to the half-axis, over which the fill fades out: hair
# differs left and right, and the ellipsoid is wider than jaw and neck.
_HAIR, _NECK = (0.4, 0.7), (0.3, 0.6)
# Distance from the head's middle, of the outline's, over which the light fades out: a matte takes a little of the
# background with the person, which more light would turn into a halo.
_LIT = 0.75, 1.0
_SMOOTHING = 1e-2  # of the spline, as for other skin
_EVERY = 6  # of the skin's points; the fill needs fewer than the face, and a grid half as fine
_COARSER = 2
DARK = 12.0
"""Of 255, added to both halves before their ratio is taken: shadows are noisy."""


@dataclass(frozen=True)
class MirroredHalf:
    """What the mirrored half of a shot's face adds to a warp; pixels span as those of the field's spline."""

    spline: Float[Tensor, "batch h w 2"]
    """Displacement from a target pixel to its sampling position in the shot, in half-sizes of the crop."""
    share: Float[Tensor, "batch h w"]
    """Share of the mirrored half, in [0, 1]."""
    gain: Float[Tensor, "batch h w 3"]
    """Light of the hidden half relative to the other, per channel."""

    def __getitem__(self, index: Tensor | slice) -> "MirroredHalf":
        return MirroredHalf(self.spline[index], self.share[index], self.gain[index])

    def light(self, person: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
        """Give a frame in [-1, 1] of the mirrored half the light of the half it fills."""
        dark = 1 + 2 * DARK / 255
        gain = F.interpolate(self.gain.permute(0, 3, 1, 2), size=person.shape[-2:], mode="bilinear")
        return ((person + dark) * gain - dark).clamp(-1, 1)


def mirrored_half(
    source: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    gain: Float[Tensor, "batch 3"],
    size: int,
    extent: float = 1.0,
) -> MirroredHalf | None:
    """Return what the mirrored half of the face adds; None if none of the targets shows what its shot hides.

    Args:
        source, target: the `control_points` of shots and targets.
        gain: `training.warp.mirrored_light.mirrored_gain` of each shot.
        size: pixels of the result's side, which span [-extent, extent].
    """
    ours, theirs = (points[:, :NUM_LANDMARKS].double().cpu().numpy() for points in (source, target))
    poses = fit_pose(ours), fit_pose(theirs)
    # No cosine changes by more than the directions to the camera do.
    turned = np.linalg.norm(poses[0].rotation[:, 2] - poses[1].rotation[:, 2], axis=-1) > _NEW[0]
    if not turned.any():
        return None
    places = extent * identity_grid(size, torch.device("cpu")).numpy()
    normals, radius = head_normals(poses[1], places)
    shares = newly_visible(poses[0], poses[1], normals, radius)
    used = np.flatnonzero(shares.any(axis=(1, 2)))
    if not len(used):
        return None
    spline = target.new_zeros(len(target), size, size, 2)
    chosen = torch.from_numpy(used).to(target.device)
    coarse = mirrored_spline(source[chosen], target[chosen], size // _COARSER, extent).permute(0, 3, 1, 2)
    spline[chosen] = F.interpolate(coarse, size=(size, size), mode="bilinear").permute(0, 2, 3, 1)
    lit = torch.from_numpy(1 - smooth_step((radius - _LIT[0]) / (_LIT[1] - _LIT[0]))).to(target)
    gains = 1 + lit[..., None] * (gain.to(target)[:, None, None] - 1)
    return MirroredHalf(spline, torch.from_numpy(shares).to(target), gains)


def mirrored_spline(
    source: Float[Tensor, "batch points 2"], target: Float[Tensor, "batch points 2"], size: int, extent: float = 1.0
) -> Float[Tensor, "batch size size 2"]:
    """Return the displacement from each pixel of the targets to the mirror image of its place in the shots.

    Args:
        source, target: the `control_points` of shots and targets.
        size: pixels of the result's side, which span [-extent, extent].
    """
    ours = source[:, :NUM_LANDMARKS].double().cpu().numpy()
    linear, shift = reflection(fit_pose(ours))
    reflected = (np.einsum("bij,bpj->bpi", linear, ours) + shift[:, None])[:, [*MIRRORED]]
    skull = fit_pose(reflected).project(SKULL_POINTS)
    start = torch.from_numpy(np.concatenate([reflected, skull], axis=1)).to(target)
    bent, wanted = (
        torch.cat(
            [
                surface_points(points[:, :NUM_LANDMARKS])[:, ::_EVERY],
                points[:, NUM_LANDMARKS : NUM_LANDMARKS + len(SKULL_POINTS)],
                target[:, -num_fixed_points() :],
            ],
            dim=1,
        )
        for points in (start, target)
    )
    grid = sampling_grid(
        bent, wanted, size, extent=extent, smoothing=bent.new_full((bent.shape[1],), _SMOOTHING)
    ).double()
    # The spline finds places in the reflected shot; reflected back, they are places in the shot.
    back, moved = torch.from_numpy(linear).to(grid), torch.from_numpy(shift).to(grid)
    found = torch.einsum("bij,bhwj->bhwi", back, grid) + moved[:, None, None]
    return displacement(found.float(), extent)


def newly_visible(
    source: Pose, target: Pose, normals: Float[np.ndarray, "batch h w 3"], radius: Float[np.ndarray, "batch h w"]
) -> Float[np.ndarray, "batch h w"]:
    """Return where targets show skin that their shots hide and whose mirror image their shots show, in [0, 1].

    Args:
        normals, radius: `head_normals` of the targets.
    """
    in_target = facing(target, normals)
    in_source, other = (facing(source, normals * axes) for axes in (1.0, np.array([-1.0, 1.0, 1.0])))
    hidden = 1 - smooth_step((in_source - _HIDDEN) / (_SEEN - _HIDDEN))
    shown = smooth_step((other - _HIDDEN) / (_SEEN - _HIDDEN))
    new = smooth_step((in_target - in_source - _NEW[0]) / _NEW[1])
    near = 1 - smooth_step((radius - 1) / _BEYOND)
    points = normals * HEAD_AXES
    down = points[..., 1] / np.linalg.norm(points, axis=-1)
    hair, neck = (
        smooth_step((each - first) / (last - first)) for each, (first, last) in ((-down, _HAIR), (down, _NECK))
    )
    return np.asarray(hidden * shown * new * near * (1 - hair) * (1 - neck))


def head_normals(
    pose: Pose, places: Float[np.ndarray, "h w 2"]
) -> tuple[Float[np.ndarray, "batch h w 3"], Float[np.ndarray, "batch h w"]]:
    """Return the normal, in the head's axes, of the ellipsoid's foremost point at each place of the image, and the
    place's distance from the head's middle relative to that of the outline. Beyond the outline, where the distance
    exceeds 1, the normal is that of the outline's point in the same direction."""
    centre = pose.project(HEAD_CENTRE[None])[..., None, :]
    flat = ((places - centre) / pose.scale[..., None, None, None]).astype(places.dtype)
    # u is a point of the unit sphere, HEAD_AXES * u one of the ellipsoid, and rotation @ (HEAD_AXES * u) = (flat, z).
    unit = np.einsum("bij,bhwi->bhwj", pose.rotation[..., :2, :], flat) / HEAD_AXES
    ahead = pose.rotation[..., 2, :] / HEAD_AXES
    ahead = (ahead / np.linalg.norm(ahead, axis=-1, keepdims=True))[..., None, None, :]
    across = unit - (unit * ahead).sum(axis=-1, keepdims=True) * ahead
    radius = np.linalg.norm(across, axis=-1)
    inside = np.minimum(radius, 1)
    across = across / np.maximum(radius, 1)[..., None]
    normals = (across - np.sqrt(1 - inside**2)[..., None] * ahead) / HEAD_AXES
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True), radius


def reflection(pose: Pose) -> tuple[Float[np.ndarray, "batch 2 2"], Float[np.ndarray, "batch 2"]]:
    """Return matrix and shift of the reflection of the image about the face's axis; it is its own inverse."""
    roll = 2 * np.radians(pose.roll)
    cos, sin = np.cos(roll), np.sin(roll)
    linear = np.stack([np.stack([-cos, -sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
    return linear, pose.translation - np.einsum("...ij,...j->...i", linear, pose.translation)


def facing(pose: Pose, normals: Float[np.ndarray, "batch h w 3"]) -> Float[np.ndarray, "batch h w"]:
    """Return the cosine of the angle between normals, in the head's axes, and the direction to the camera."""
    return np.asarray(-np.einsum("bhwi,bi->bhw", normals, pose.rotation[..., 2, :]))
