"""The skin between the landmarks: where it lies, by what faces have in common.

A detector's points tremble by a percent of the eyes' distance, each on its own, and a spline through them bends what is
between: the shape of brows, nose and cheeks, by which a person is known. Skin is not so free. Where 388 points of
MediaPipe's face mesh lie, all but those on the outlines of eyes and lips, the 68 landmarks all but tell, linearly. The
map is a ridge regression on synthetic people that takes much of the trembling out; `training.warp.fit_skin_surface`
finds it anew.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_ALIKE = 0.25  # squared correlation of a face with the reference

SURFACE_FILE = Path(__file__).parent / "data" / "surface.npz"


@dataclass(frozen=True)
class SurfaceMap:
    """The linear map, for landmarks turned, scaled and moved onto the reference; places are across and down."""

    reference: Float[Tensor, "68 2"]
    """The mean face, its middle at 0."""
    surface: Float[Tensor, "points 2"]
    """Its skin."""
    weights: Float[Tensor, "68*2 points*2"]
    """How far the skin moves when landmarks do."""


def surface_points(landmarks: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch points 2"]:
    """Points all over a face but its eyes and lips, in the landmarks' unit; see above."""
    face = _load(landmarks.device)
    middle = landmarks.mean(dim=1, keepdim=True)
    reference, seen = (torch.view_as_complex(points.contiguous()) for points in (face.reference, landmarks - middle))
    # The similarity that brings the face onto the reference is one complex number, by least squares.
    alike = (seen.conj() * reference).sum(dim=1)
    seen_size = seen.abs().square().sum(dim=1).clamp_min(1e-12)
    size = reference.abs().square().sum()
    factor = alike / seen_size
    offsets = torch.view_as_real(seen * factor[:, None] - reference).flatten(1)
    found = face.surface + (offsets @ face.weights).unflatten(1, (-1, 2))
    # Its inverse, but bounded: points that are no face, or all one, have their skin among them.
    inverse = alike.conj() / size / (alike.abs().square() / (seen_size * size)).clamp_min(_LEAST_ALIKE)
    back = torch.view_as_complex(found.contiguous()) * inverse[:, None]
    return middle + torch.view_as_real(back)


@lru_cache(maxsize=4)
def _load(device: torch.device) -> SurfaceMap:
    with np.load(SURFACE_FILE) as file:
        return SurfaceMap(*(torch.from_numpy(file[name].astype(np.float32)).to(device) for name in _FIELDS))


_FIELDS = tuple(SurfaceMap.__dataclass_fields__)
