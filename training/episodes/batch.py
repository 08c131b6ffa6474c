"""Convert decoded episodes to a batch of tensors on the training device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.landmark_image import rasterize_batch
from training.config import ModelConfig
from training.device import send
from training.episodes.augmentation import AugmentationDraws, augment_frames, augment_landmarks, augment_mattes
from training.episodes.loader import DecodedEpisodes
from training.images import matte_tensor, resize_points, to_tensor
from training.models.identity_rows import IdentityRows
from training.warp.apply import WarpedShot, warp_shot
from training.warp.control_points import control_points, unit_points
from training.warp.matted_shot import make_shot


@dataclass(frozen=True)
class Batch:
    """Episodes on the training device: K shots and a target of one video each. Frames are in [-1, 1]."""

    rows: Int[Tensor, "batch"]
    shots: Float[Tensor, "batch shots 3 h w"]
    shot_landmark_images: Float[Tensor, "batch shots 3 h w"]
    target: Float[Tensor, "batch 3 h w"]
    target_landmark_image: Float[Tensor, "batch 3 h w"]
    target_landmarks: Float[Tensor, "batch 68 2"]
    """In [-1, 1] across the target's edges."""
    warped: WarpedShot | None

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, most: int | None) -> Sequence["Batch"]:
        """Split into parts of `most` episodes, the last possibly smaller; None: one part."""
        if most is None or most >= len(self):
            return [self]
        return [self._part(slice(first, first + most)) for first in range(0, len(self), most)]

    def _part(self, part: slice) -> "Batch":
        warped = self.warped and self.warped[part]
        shots, images = self.shots[part], self.shot_landmark_images[part]
        target, image, landmarks = self.target[part], self.target_landmark_image[part], self.target_landmarks[part]
        return Batch(self.rows[part], shots, images, target, image, landmarks, warped)


def to_batch(
    decoded: DecodedEpisodes,
    table: IdentityRows,
    config: ModelConfig,
    device: torch.device,
    draws: AugmentationDraws | None = None,
) -> Batch:
    """Move decoded episodes to the device; augment them, rasterise landmark images and warp there. Does not wait for
    the device."""
    size, fine_size = config.image_size, config.frame_size
    batch, per_episode = decoded.images.shape[:2]
    fine = to_tensor(decoded.images.reshape(-1, fine_size, fine_size, 3), device).unflatten(0, (batch, per_episode))
    landmarks = decoded.landmarks
    if draws is not None:
        # Without camera augmentation, all frames of an episode change alike, so the nearest shot remains the nearest.
        fine, landmarks = augment_frames(fine, draws), augment_landmarks(landmarks, draws, fine_size)
    landmarks = resize_points(landmarks, size / fine_size)
    frames = F.avg_pool2d(fine.flatten(0, 1), fine_size // size).unflatten(0, (batch, per_episode))
    images = rasterize_batch(send(landmarks.reshape(-1, 68, 2), device), size, config.raster)
    images = images.unflatten(0, (batch, per_episode))
    warped = None
    if config.warp_prior:
        episode = torch.arange(batch, device=device)
        source = send(decoded.warp_sources, device)
        on_host = control_points(landmarks, size)
        points = send(on_host, device)
        assert decoded.mattes is not None
        mattes = matte_tensor(decoded.mattes, device)
        if draws is not None:
            mattes = augment_mattes(mattes, decoded.warp_sources, draws)
        shot = make_shot(fine[episode, source], mattes)
        pair = on_host[np.arange(batch), decoded.warp_sources], on_host[:, 0]
        host = None if device.type == "cpu" else (torch.from_numpy(pair[0]), torch.from_numpy(pair[1]))
        warped = warp_shot(shot, images[episode, source], points[episode, source], points[:, 0], host)
    face = send(unit_points(landmarks[:, 0], size), device).float()
    rows = table.indices(decoded.video_ids)
    return Batch(rows, frames[:, 1:], images[:, 1:], frames[:, 0], images[:, 0], face, warped)
