"""G and P: a landmark image and an embedding -> a frame (arXiv 1905.08233, section 3.1), warp prior or not."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.images import smoothed
from training.models.layers import AdaINResidualBlock, SelfAttention, adain, downsampling_blocks, sn_conv, sn_linear
from training.warp.warp import WarpedShot, WarpField, displacement, warp_and_shrink

_WARP_LOGIT_BIAS = 1.0  # some of the paint is let through from the start: with a shut mask it would not learn
_WHITE = 0.99  # beyond it atanh grows without bound
_FURTHEST = 0.1  # half-sizes of the crop by which the network may move a place beside the warp
_CAUTION = 0.1  # a step of an optimiser must not throw the picture about: motion is learned slower than paint
_MOTION_HALVINGS = 2  # of the picture's size, until what moves is smooth enough
_SMOOTHINGS = 2  # of that, each over three places: else a lock of hair stays behind, taken for background
_NUM_SEEN = 3 + 4 + 1 + 3 + 2  # channels of `_seen`
_LOUDNESS = 5.0  # of the warp's displacements, half-sizes, as the network sees them


@dataclass(frozen=True)
class Composite:
    """How a frame was made of a shot: `alpha * moved + (1 - alpha) * colour`.

    `moved` is the shot, its person bent by `bend`, the warp's with what the network moves otherwise; `colour` is
    painted as a change of it, `tanh(atanh(moved) + paint)`. Pictures are in [-1, 1], alpha in [0, 1].
    """

    moved: Float[Tensor, "batch 3 h w"]
    field: WarpField
    alpha: Float[Tensor, "batch 1 h w"]
    colour: Float[Tensor, "batch 3 h w"]


@dataclass(frozen=True)
class GeneratedFrame:
    """x_hat in [-1, 1], and its parts where there is a warp prior."""

    frame: Float[Tensor, "batch 3 h w"]
    parts: Composite | None = None


class Generator(nn.Module):
    """G(y, e): everything but P works on AdaIN values, so that fine-tuning can free them (section 3.3).

    With a warp prior each size on the way up also sees what the way down saw at that size: the warp's detail, which the
    narrow middle cannot carry. The published form has no such way round, since all of a face must come from e.

    The warp knows of the face alone. So before it paints, the network says how far each place follows the warp at all,
    and moves it a little further (as arXiv 2003.00196 does with motion from key points): hair, neck, shoulders. That
    motion is coarse and smooth, so that a lock of hair is not torn off its head; a matte holds the background.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.warp_prior = config.warp_prior
        down_channels = config.generator_channels
        in_channels = _NUM_SEEN if config.warp_prior else 3
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
            self.motion_at = max(len(down_channels) - _MOTION_HALVINGS - 1, 0)
            self.motion = _silent_conv(down_channels[-1 - self.motion_at], 3)
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
        seen = landmark_image if warped is None else _seen(landmark_image, warped, warped.frame, warped.field)
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
            if warped is None:
                continue
            features = features + self.skips[index](finer.pop())
            if index == self.motion_at:
                field = self._move(warped.field, features)
                moved_shot = warp_and_shrink(warped.shot, field, landmark_image.shape[-1])
                # What is painted is a change of the moved shot: the last way round shows that one.
                finer[0] = _seen(landmark_image, warped, moved_shot, field)
        painted = self.head(F.relu(adain(features, *head_values.chunk(2, dim=1)))).float()
        if warped is None:
            return GeneratedFrame(torch.tanh(painted))
        paint, logit = painted.split([3, 1], dim=1)
        moved = moved_shot[:, :3]
        colour = torch.tanh(torch.atanh(moved.clamp(-_WHITE, _WHITE)) + paint)
        alpha = torch.sigmoid(logit + _WARP_LOGIT_BIAS)
        return GeneratedFrame(alpha * moved + (1 - alpha) * colour, Composite(moved, field, alpha, colour))

    def _move(self, field: WarpField, features: Float[Tensor, "batch channels h2 w2"]) -> WarpField:
        """The warp's spline, followed less (1: not at all, -1: twice as far) and moved further, as features say."""
        motion = torch.tanh(_CAUTION * self.motion(F.relu(F.instance_norm(features))).float())
        motion = F.interpolate(
            smoothed(motion, _SMOOTHINGS), size=field.spline.shape[1:3], mode="bilinear", align_corners=False
        )
        still, further = motion.permute(0, 2, 3, 1).split([1, 2], dim=3)
        return replace(field, spline=(1 - still) * field.spline + _FURTHEST * further)

    def _look(self, picture: Float[Tensor, "batch channels h w"]) -> tuple[Float[Tensor, "..."], list[Tensor]]:
        """The middle's input, and what was seen at each size before it, the finest first."""
        finer = []
        for block in self.down:
            if not isinstance(block, SelfAttention):
                finer.append(picture)
            picture = block(picture)
        return picture, finer


def _seen(
    landmark_image: Float[Tensor, "batch 3 h w"],
    warped: WarpedShot,
    frame: Float[Tensor, "batch 4 h w"],
    field: WarpField,
) -> Float[Tensor, "batch seen h w"]:
    """What is asked for, what there is of it and who stood where before, and how that was bent."""
    size = landmark_image.shape[-1]
    bent = _LOUDNESS * displacement(field.grid(size)).permute(0, 3, 1, 2)
    matte = F.adaptive_avg_pool2d(warped.shot[:, 3:4], size)
    return torch.cat([landmark_image, frame, matte, warped.landmark_image, bent], dim=1)


def _silent_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution that says nothing yet: an untrained network shows the warp. Spectral norm would not let it."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _unit_scales(in_channels: int, out_channels: int) -> Float[Tensor, "values"]:
    ones_and_zeros = [torch.ones(in_channels), torch.zeros(in_channels), torch.ones(out_channels)]
    return torch.cat([*ones_and_zeros, torch.zeros(out_channels)])
