"""E: embeds frames and their landmark images as one vector per person (arXiv 1905.08233, section 3.1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.models.layers import downsampling_blocks


def identity_body(config: ModelConfig) -> list[nn.Module]:
    """Return the blocks that embedder and discriminator have in common: 6 input channels, N outputs, no norm."""
    return downsampling_blocks(
        config.image_size, 6, config.embedder_channels, attention_size=config.attention_size_down, norm=False
    )


class Embedder(nn.Module):
    """E(x, y): one embedding of size N per frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(*identity_body(config))

    def forward(
        self, frames: Float[Tensor, "batch 3 h w"], landmark_images: Float[Tensor, "batch 3 h w"]
    ) -> Float[Tensor, "batch embedding"]:
        # In float32: a sum over space in bfloat16 would keep about three digits.
        return F.relu(self.body(torch.cat([landmark_images, frames], dim=1)).float().sum(dim=(2, 3)))

    def embed_shots(
        self, frames: Float[Tensor, "batch shots 3 h w"], landmark_images: Float[Tensor, "batch shots 3 h w"]
    ) -> Float[Tensor, "batch embedding"]:
        """Return e_hat, the mean embedding of each person's K shots."""
        embeddings = self(frames.flatten(0, 1), landmark_images.flatten(0, 1))
        mean: Tensor = embeddings.unflatten(0, frames.shape[:2]).mean(dim=1)
        return mean
