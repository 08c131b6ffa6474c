"""D: scores realism, match with the landmarks and match with the identity (arXiv 1905.08233, section 3.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.models.embedder import identity_body
from training.models.layers import ResidualBlock, SelfAttention


@dataclass(frozen=True)
class DiscriminatorOutput:
    """D's unbounded score per frame, and its activations after each residual block, for feature matching."""

    score: Float[Tensor, "batch"]
    features: list[Tensor]


class Discriminator(nn.Module):
    """`score = v . (W_i + w0) + b`; the caller passes the identity rows W_i (training.models.identity_rows)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.embedding_size
        self.blocks = nn.ModuleList(identity_body(config))
        self.blocks.append(ResidualBlock(size, size, norm=False, resampling="none"))
        self.w0 = nn.Parameter(torch.randn(size) * 0.02)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        frame: Float[Tensor, "batch 3 h w"],
        landmark_image: Float[Tensor, "batch 3 h w"],
        identity: Float[Tensor, "#batch embedding"],
    ) -> DiscriminatorOutput:
        x = torch.cat([landmark_image, frame], dim=1)
        features = []
        for block in self.blocks:
            x = block(x)
            # Not after self-attention: it starts as the identity, so that resolution would count twice.
            if not isinstance(block, SelfAttention):
                features.append(x)
        vector = F.relu(x.float().sum(dim=(2, 3)))  # as in the embedder
        return DiscriminatorOutput((vector * (identity + self.w0)).sum(dim=1) + self.bias, features)
