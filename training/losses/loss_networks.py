"""Critics: frozen networks that see how far a drawn frame is from the true one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipelines.faces.head_pose import LIPS
from training.config import LossWeights, TrainConfig
from training.losses.face_identity import FaceRecogniser, load_recogniser
from training.losses.perceptual import PerceptualNetwork, load_perceptual
from training.losses.perceptual_files import PerceptualFiles
from training.warp.warp import identity_grid, warp

MOUTH_SIDE = 48
"""Pixels of a mouth that is looked at alone: in a crop of 96 there are no more."""
_AROUND = 1.6  # widths of the mouth


class LossNetworks(nn.Module):
    """Perceptual networks and, where the losses ask for it, a look at the mouth alone and a recogniser."""

    def __init__(
        self, weights: LossWeights, perceptual: PerceptualNetwork, recogniser: FaceRecogniser | None = None
    ) -> None:
        super().__init__()
        self.weights, self.perceptual, self.recogniser = weights, perceptual, recogniser

    def forward(
        self, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
    ) -> dict[str, Sequence[Tensor]]:
        """Activations by the term of `LossWeights` that they serve.

        Args:
            frames: in [-1, 1], RGB.
            landmarks: of the faces, in [-1, 1] across each frame's edges.
        """
        seen: dict[str, Sequence[Tensor]] = dict(self.perceptual(frames))
        if self.weights.content_mouth:
            seen["content_mouth"] = self.perceptual.classifier("content")(cut_out_mouths(frames, landmarks))
        if self.recogniser is not None:
            seen["identity"] = self.recogniser(frames, landmarks)
        return seen


def load_loss_networks(config: TrainConfig, files: PerceptualFiles | None = None) -> LossNetworks:
    """Those that a configuration asks for, with their weights, which are fetched on first use.

    Args:
        files: where weights lie that no registry carries.

    Raises:
        ValueError: the perceptual network cannot be had, see `load_perceptual`.
        AssetError, OSError: the recogniser's weights cannot be had.
    """
    recogniser = load_recogniser() if config.losses.identity else None
    return LossNetworks(config.losses, load_perceptual(config, files), recogniser)


def cut_out_mouths(
    frames: Float[Tensor, "batch 3 h w"], landmarks: Float[Tensor, "batch 68 2"]
) -> Float[Tensor, "batch 3 side side"]:
    """Upright squares around the lips."""
    first, last = torch.aminmax(landmarks[:, LIPS], dim=1)
    half = _AROUND / 2 * (last - first).amax(dim=1)[:, None, None, None]
    return warp(frames, ((first + last) / 2)[:, None, None] + half * identity_grid(MOUTH_SIDE, frames.device))
