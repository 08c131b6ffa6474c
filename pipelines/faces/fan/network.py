"""FAN, the landmark network of face-alignment, on many faces per forward pass, with the library's crops and heat maps.

The library itself runs one image at a time and rounds landmarks down to whole pixels. Here the fractions are kept,
which matters for a small face that is enlarged to a crop of 256 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.face import Box, Face, make_face
from pipelines.faces.face_detectors import exact_convolutions

CROP = 256
CROPS_AT_ONCE = {"cpu": 8, "cuda": 64}  # batches do not speed up a CPU, and 64 crops take 2 GB there
HINT_SCALE = 195.0  # reference scale of S3FD's boxes, on which FAN was trained; hints are treated as such boxes
_UNIT = 200.0  # pixels of the image per unit of scale
_CENTRE_UP = 0.12  # upward shift of the view's centre, in units of the box's height

# Expected place of the landmarks' box in FAN's view, in units of the view's side: its centre 0.12 below the middle, its
# size 0.36-0.43. Measured with YuNet's boxes around MediaPipe's landmarks on the demo clips: in 99 % of 263 frames the
# centre is within 0.06 and the size 0.33-0.40.
_LANDMARKS_DOWN = 0.12
_LANDMARKS_OFF = 0.12
_LANDMARKS_SIZE = (0.22, 0.65)


@dataclass(frozen=True)
class View:
    """The square of the image that is FAN's input: its centre and its side, in pixels."""

    x: float
    y: float
    side: float


def view_of(box: Box, reference_scale: float) -> View:
    """Return FAN's view of a box, given the reference scale of its face detector."""
    wide, high = box[2] - box[0], box[3] - box[1]
    return View(box[2] - wide / 2, box[3] - high / 2 - high * _CENTRE_UP, (wide + high) / reference_scale * _UNIT)


def cut(image: UInt8[np.ndarray, "height width 3"], view: View) -> UInt8[np.ndarray, "256 256 3"]:
    """Return the pixels of a view, black outside the image."""
    from face_alignment.utils import crop

    return np.asarray(crop(image, np.array([view.x, view.y]), view.side / _UNIT), dtype=np.uint8)


def fits(face: Face, view: View) -> bool:
    """Whether the landmarks lie where a well placed view has its face; if not, the box was wrong."""
    x0, y0, x1, y1 = face.box
    off_x = (x0 + x1) / 2 - view.x
    off_y = (y0 + y1) / 2 - view.y - _LANDMARKS_DOWN * view.side
    size = max(x1 - x0, y1 - y0) / view.side
    low, high = _LANDMARKS_SIZE
    return float(np.hypot(off_x, off_y)) <= _LANDMARKS_OFF * view.side and low <= size <= high


class Fan:
    """FAN on a device, in single precision. `crops_at_once` is the best batch size for `faces`."""

    def __init__(self, network: Any, device: str = "cpu", crops_at_once: int | None = None) -> None:
        self._network = network.to(device).eval()
        self._device = device
        self.crops_at_once = crops_at_once or CROPS_AT_ONCE[device.partition(":")[0]]

    def faces(self, crops: Sequence[UInt8[np.ndarray, "256 256 3"]], views: Sequence[View]) -> list[Face]:
        """Return the face in each crop, in pixels of its image, in one forward pass."""
        import torch

        if not crops:
            return []
        with torch.no_grad(), exact_convolutions():
            pixels = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float() / 255
            maps = self._network(pixels)[-1].float().cpu().numpy()
        points, peaks = read_heat_maps(maps)
        centres = np.array([(view.x, view.y) for view in views])[:, None]
        sides = np.array([view.side for view in views])[:, None, None]
        landmarks = (points - 0.5) * sides + centres
        scores = np.clip(peaks.mean(axis=1), 0, 1)
        return [make_face(p.astype(np.float32), float(s)) for p, s in zip(landmarks, scores, strict=True)]


def read_heat_maps(
    maps: Float[np.ndarray, "faces points height width"],
) -> tuple[Float[np.ndarray, "faces points 2"], Float[np.ndarray, "faces points"]]:
    """Return the peak of each map, x and y in units of the map's sides, and its height.

    The position is the centre of the highest cell, moved by a quarter of a cell towards the higher neighbour on each
    axis, except at the border. The library's own function gives the same, but spends ten seconds per process on
    compiling itself.
    """
    height, width = maps.shape[2:]
    flat = maps.reshape(*maps.shape[:2], -1)
    cell = flat.argmax(axis=2)
    y, x = np.divmod(cell, width)
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    middle = np.where(inside, cell, width + 1)  # an arbitrary cell with neighbours, for peaks at the border
    points = np.stack([x, y], axis=2) + 0.5
    for axis, step in ((0, 1), (1, width)):
        ahead, behind = (np.take_along_axis(flat, (middle + s)[..., None], axis=2)[..., 0] for s in (step, -step))
        points[..., axis] += np.where(inside, 0.25 * np.sign(ahead - behind), 0.0)
    return points / [width, height], np.take_along_axis(flat, cell[..., None], axis=2)[..., 0]


def load_fan(path: Path, device: str) -> Fan:
    """Load FAN with the weights of a file. Raises ValueError when the file holds something else."""
    import pickle

    import torch
    from face_alignment.models import FAN

    network = FAN(4)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, AttributeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} does not hold the weights of FAN with four hourglasses: {reason}") from error
    return Fan(network, device)
