"""The frozen networks whose activations the content and identity losses compare."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipelines.faces.head_pose import LIPS
from training.config import LossWeights, TrainConfig
from training.losses.face_identity import FaceRecogniser, load_recogniser
from training.losses.perceptual import PerceptualNetwork, load_perceptual
from training.losses.perceptual_files import PerceptualFiles
from training.warp.spline import identity_grid, warp

MOUTH_SIDE = 48
"""Height and width of the crop of the mouth, pixels; more would exceed its resolution in a frame of 96 px."""
_MOUTH_CROP = 1.6  # side of that crop, in widths of the mouth


class LossNetworks(nn.Module):
    """Perceptual networks on frames and, if their losses have weights, on crops of the mouth, and a face recogniser."""

    def __init__(
        self, weights: LossWeights, perceptual: PerceptualNetwork, recogniser: FaceRecogniser | None = None
    ) -> None:
        super().__init__()
        self.weights, self.perceptual, self.recogniser = weights, perceptual, recogniser

    def forward(
        self, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
    ) -> dict[str, Sequence[Tensor]]:
        """Return activations by the name of their term in `LossWeights`.

        Args:
            frames: in [-1, 1], RGB.
            landmarks: of the faces, in [-1, 1] across each frame's edges.
        """
        activations: dict[str, Sequence[Tensor]] = dict(self.perceptual(frames))
        if self.weights.content_mouth:
            activations["content_mouth"] = self.perceptual.classifier("content")(crop_mouths(frames, landmarks))
        if self.recogniser is not None:
            activations["identity"] = self.recogniser(frames, landmarks)
        return activations


def load_loss_networks(config: TrainConfig, files: PerceptualFiles | None = None) -> LossNetworks:
    """Load the networks that a configuration's losses use; weights are downloaded on first use.

    Args:
        files: where the weights of the published content loss are.

    Raises:
        ValueError: the perceptual network is not available, see `load_perceptual`.
        AssetError, OSError: the face recogniser's weights are not available.
    """
    recogniser = load_recogniser() if config.losses.identity else None
    return LossNetworks(config.losses, load_perceptual(config, files), recogniser)


def crop_mouths(
    frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
) -> Float[Tensor, "batch 3 side side"]:
    """Crop upright squares around the lips."""
    first, last = torch.aminmax(landmarks[:, LIPS], dim=1)
    half = _MOUTH_CROP / 2 * (last - first).amax(dim=1)[:, None, None, None]
    return warp(frames, ((first + last) / 2)[:, None, None] + half * identity_grid(MOUTH_SIDE, frames.device))
