"""Predict points of the skin between the landmarks by a linear map.

A detector's points jitter independently by a percent of the eye distance; a spline through them would distort brows,
nose and cheeks, by which a person is recognised. The 68 landmarks determine the positions of 388 points of MediaPipe's
face mesh (all except the outlines of eyes and lips) almost linearly. The map is a ridge regression on synthetic people,
which removes much of the jitter; `training.warp.fit_skin_surface` fits it.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_MIN_CORRELATION = 0.25  # squared correlation of a face with the reference, to which the inverse transform is bounded

SURFACE_FILE = Path(__file__).parent / "data" / "surface.npz"


@dataclass(frozen=True)
class SurfaceMap:
    """The linear map, for landmarks aligned with the reference by a similarity transform; points are (x, y)."""

    reference: Float[Tensor, "68 2"]
    """Landmarks of the mean face, centred at 0."""
    surface: Float[Tensor, "points 2"]
    """Points of its skin."""
    weights: Float[Tensor, "68*2 points*2"]
    """Displacement of the skin per displacement of the landmarks."""


def surface_points(landmarks: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch points 2"]:
    """Return points of the skin, except eyes and lips, in the landmarks' unit."""
    face = _load(landmarks.device)
    middle = landmarks.mean(dim=1, keepdim=True)
    reference, seen = (torch.view_as_complex(points.contiguous()) for points in (face.reference, landmarks - middle))
    # The least-squares similarity transform to the reference is multiplication by a complex number.
    alike = (seen.conj() * reference).sum(dim=1)
    seen_size = seen.abs().square().sum(dim=1).clamp_min(1e-12)
    size = reference.abs().square().sum()
    factor = alike / seen_size
    offsets = torch.view_as_real(seen * factor[:, None] - reference).flatten(1)
    found = face.surface + (offsets @ face.weights).unflatten(1, (-1, 2))
    # Its inverse, bounded: for points that are no face, or coincide, the skin stays near them.
    inverse = alike.conj() / size / (alike.abs().square() / (seen_size * size)).clamp_min(_MIN_CORRELATION)
    back = torch.view_as_complex(found.contiguous()) * inverse[:, None]
    return middle + torch.view_as_real(back)


@lru_cache(maxsize=4)
def _load(device: torch.device) -> SurfaceMap:
    with np.load(SURFACE_FILE) as file:
        return SurfaceMap(*(torch.from_numpy(file[name].astype(np.float32)).to(device) for name in _FIELDS))


_FIELDS = tuple(SurfaceMap.__dataclass_fields__)
