"""G and P: a landmark image and an embedding -> a frame (arXiv 1905.08233, section 3.1), warp prior or not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.models.layers import (
    AdaINResidualBlock,
    SelfAttention,
    adain,
    downsampling_blocks,
    sn_conv,
    sn_linear,
)
from training.models.warp import WarpedShot

_WARP_LOGIT_BIAS = 1.0  # some of the paint is let through from the start: with a shut mask it would not learn
_WHITE = 0.99  # beyond it atanh grows without bound


@dataclass(frozen=True)
class GeneratedFrame:
    """x_hat and, with a warp prior, its parts: `frame = alpha * warped + (1 - alpha) * colour`.

    `colour` is painted as a change of the warp's, `tanh(atanh(warped) + paint)`. All in [-1, 1] but alpha, which is in
    [0, 1]. Without a warp prior `colour` is the frame and `alpha` is None.
    """

    frame: Float[Tensor, "batch 3 h w"]
    colour: Float[Tensor, "batch 3 h w"]
    alpha: Float[Tensor, "batch 1 h w"] | None


class Generator(nn.Module):
    """G(y, e): everything but P works on AdaIN values, so that fine-tuning can free them (section 3.3).

    With a warp prior each size on the way up also sees what the way down saw at that size: the warp's detail, which the
    narrow middle cannot carry. The published form has no such way round, since all of a face must come from e.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.warp_prior = config.warp_prior
        down_channels = config.generator_channels
        in_channels = 9 if config.warp_prior else 3
        self.down = nn.Sequential(
            *downsampling_blocks(
                config.image_size, in_channels, down_channels, attention_size=config.attention_size_down, norm=True
            )
        )
        deepest = down_channels[-1]
        self.bottleneck = nn.ModuleList(
            AdaINResidualBlock(deepest, deepest, up=False) for _ in range(config.num_bottleneck_blocks)
        )
        self.up = nn.ModuleList()
        self.attention = nn.ModuleDict()
        size, channels = config.image_size // 2 ** len(down_channels), deepest
        for index, block_channels in enumerate(reversed(down_channels)):
            self.up.append(AdaINResidualBlock(channels, block_channels, up=True))
            size, channels = size * 2, block_channels
            if size == config.attention_size_up:
                self.attention[str(index)] = SelfAttention(channels)
        self.head_channels = channels
        if config.warp_prior:
            finer = [*reversed(down_channels[:-1]), in_channels]
            self.skips = nn.ModuleList(
                sn_conv(seen, drawn, 3 if seen == in_channels else 1)
                for seen, drawn in zip(finer, reversed(down_channels), strict=True)
            )
            self.head: nn.Module = _silent_conv(channels, 4)
        else:
            self.head = sn_conv(channels, 3, 3)
        self.projection = sn_linear(config.embedding_size, self.num_adain_values)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        """AdaIN starts as plain instance norm: scales near one, biases near zero."""
        with torch.no_grad():
            bias = torch.cat([_unit_scales(block.in_channels, block.out_channels) for block in self._adain_blocks()])
            head = torch.cat([torch.ones(self.head_channels), torch.zeros(self.head_channels)])
            self.projection.get_parameter("bias").copy_(torch.cat([bias, head]))

    def _adain_blocks(self) -> list[AdaINResidualBlock]:
        return [block for block in [*self.bottleneck, *self.up] if isinstance(block, AdaINResidualBlock)]

    @property
    def num_adain_values(self) -> int:
        """Length of psi' = P e."""
        return sum(block.num_adain_values for block in self._adain_blocks()) + 2 * self.head_channels

    def adain_values(self, embedding: Float[Tensor, "batch embedding"]) -> Float[Tensor, "batch values"]:
        """psi' = P e."""
        values: Tensor = self.projection(embedding)
        return values

    def forward(
        self,
        landmark_image: Float[Tensor, "batch 3 h w"],
        adain_values: Float[Tensor, "batch values"],
        warped: WarpedShot | None = None,
    ) -> GeneratedFrame:
        """Draw one frame per landmark image.

        Raises:
            ValueError: a warp prior without a warped shot, or the other way round.
        """
        if self.warp_prior != (warped is not None):
            raise ValueError(f"this generator was built with warp_prior={self.warp_prior}")
        seen = landmark_image
        if warped is not None:
            seen = torch.cat([landmark_image, warped.frame, warped.landmark_image], dim=1)
        features, finer = self._look(seen)
        *block_values, head_values = adain_values.split(
            [block.num_adain_values for block in self._adain_blocks()] + [2 * self.head_channels], dim=1
        )
        for block, values in zip(self.bottleneck, block_values[: len(self.bottleneck)], strict=True):
            features = block(features, values)
        for index, (block, values) in enumerate(zip(self.up, block_values[len(self.bottleneck) :], strict=True)):
            features = block(features, values)
            if str(index) in self.attention:
                features = self.attention[str(index)](features)
            if warped is not None:
                features = features + self.skips[index](finer.pop())
        painted = self.head(F.relu(adain(features, *head_values.chunk(2, dim=1)))).float()
        if warped is None:
            colour = torch.tanh(painted)
            return GeneratedFrame(colour, colour, None)
        paint, logit = painted.split([3, 1], dim=1)
        colour = torch.tanh(torch.atanh(warped.frame.clamp(-_WHITE, _WHITE)) + paint)
        alpha = torch.sigmoid(logit + _WARP_LOGIT_BIAS)
        return GeneratedFrame(alpha * warped.frame + (1 - alpha) * colour, colour, alpha)

    def _look(self, picture: Float[Tensor, "batch channels h w"]) -> tuple[Float[Tensor, "..."], list[Tensor]]:
        """The middle's input, and what was seen at each size before it, the finest first."""
        finer = []
        for block in self.down:
            if not isinstance(block, SelfAttention):
                finer.append(picture)
            picture = block(picture)
        return picture, finer


def _silent_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution that says nothing yet: an untrained network shows the warp. Spectral norm would not let it."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _unit_scales(in_channels: int, out_channels: int) -> Float[Tensor, "values"]:
    ones_and_zeros = [torch.ones(in_channels), torch.zeros(in_channels), torch.ones(out_channels)]
    return torch.cat([*ones_and_zeros, torch.zeros(out_channels)])
