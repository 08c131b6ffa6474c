"""The light of a face's hidden half relative to the other: by it the mirrored half matches the shot's own."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from pipelines.faces.head_pose import fit_pose
from training.images import smooth_step
from training.warp.control_points import control_points
from training.warp.hidden_half import DARK, facing, head_normals, mirrored_spline
from training.warp.spline import identity_grid, warp

_SIZE = 96  # pixels at which the halves are compared
_NEAR_EDGE = 0.15, 0.35, 0.8  # cosines towards the camera between which skin counts, fully at the second
_LESS = 0.1  # difference of these cosines from which on a half counts fully as the one that is seen less
_MAX_GAIN = 2.0
_MIN_SKIN = 4.0  # pixels


def mirrored_gain(
    pixels: UInt8[np.ndarray, "side side 3"], landmarks: Float[np.ndarray, "68 2"]
) -> Float32[np.ndarray, "3"]:
    """Return factors, of pixels plus `DARK`, that give the mirror image of a face the light of the half it fills.

    Both are compared where the half that is seen less shows skin near its outline.

    Args:
        landmarks: in pixels of the picture.
    """
    points = torch.from_numpy(control_points(landmarks[None], len(pixels)))
    picture = cv2.resize(pixels, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    places = identity_grid(_SIZE, torch.device("cpu"))
    mirror = warp(image, places + mirrored_spline(points, points, _SIZE))[0].permute(1, 2, 0).numpy()
    pose = fit_pose(points[:, :68].double().numpy())
    normals, radius = head_normals(pose, places.double().numpy())
    ours, other = (facing(pose, normals * axes) for axes in (1.0, np.array([-1.0, 1.0, 1.0])))
    low, full, high = _NEAR_EDGE
    weight = smooth_step((ours - low) / (full - low)) * smooth_step((high - ours) / (high - full))
    weight = (weight * smooth_step((other - ours) / _LESS) * (radius < 1))[0] * _hull(points[0, :68].numpy())
    total = float(weight.sum())
    if total < _MIN_SKIN:
        return np.ones(3, np.float32)
    ratio = np.log((picture + DARK) / (mirror + DARK))
    mean = (weight[..., None] * ratio).sum(axis=(0, 1)) / total
    return np.asarray(np.exp(np.clip(mean, -np.log(_MAX_GAIN), np.log(_MAX_GAIN))), np.float32)


def _hull(points: Float[np.ndarray, "68 2"]) -> Float32[np.ndarray, "h w"]:
    mask = np.zeros((_SIZE, _SIZE), np.uint8)
    pixels = np.rint((points + 1) * (_SIZE / 2) - 0.5).astype(np.int32)
    return np.asarray(cv2.fillConvexPoly(mask, cv2.convexHull(pixels), 1), np.float32)
