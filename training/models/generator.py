"""G and P: generate a frame from a landmark image and an embedding (arXiv 1905.08233, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.images import smooth
from training.models.layers import AdaINResidualBlock, SelfAttention, adain, downsampling_blocks, sn_conv, sn_linear
from training.warp.apply import WarpInput
from training.warp.field import WarpField

_WARP_LOGIT_BIAS = 1.0  # initial alpha is sigmoid(1) = 0.73: with alpha near 1 the paint would get no gradient
_MAX_COLOUR = 0.99  # pixels are clamped to this range before atanh, which grows without bound
_MAX_OFFSET = 0.1  # half-sizes of the crop by which the network may move a pixel beyond the warp
_MOTION_GAIN = 0.1  # slows down the learning of motion: an optimiser's step must not displace the whole frame
_MOTION_HALVINGS = 2  # motion is predicted at the image size halved this often, so that it is smooth
_SMOOTHINGS = 2  # 3x3 box filters over the motion: without them single locks of hair stay behind with the background
_NUM_INPUT_CHANNELS = 3 + 4 + 1 + 3 + 2  # of `_network_input`
_DISPLACEMENT_GAIN = 5.0  # displacements, in half-sizes, are scaled by this in the network's input


@dataclass(frozen=True)
class Composite:
    """The parts of a frame generated with a warp prior: `alpha * moved + (1 - alpha) * colour`.

    `moved` is the shot with its person warped by `field`, the warp prior's field as modified by the network; `colour`
    is `tanh(atanh(moved) + paint)`. Frames are in [-1, 1], alpha in [0, 1].
    """

    moved: Float[Tensor, "batch 3 h w"]
    field: WarpField
    alpha: Float[Tensor, "batch 1 h w"]
    colour: Float[Tensor, "batch 3 h w"]


@dataclass(frozen=True)
class GeneratedFrame:
    """x_hat in [-1, 1], and its parts with a warp prior."""

    frame: Float[Tensor, "batch 3 h w"]
    parts: Composite | None = None


class Generator(nn.Module):
    """G(y, e), with the projection P apart: all else takes AdaIN values, which fine-tuning trains (section 3.3).

    With a warp prior each resolution of the upsampling part also gets the downsampling part's input at that resolution:
    detail of the warped shot, which the bottleneck cannot carry. The published form has no such skips, since there all
    of the face must come from e.

    The warp prior follows the face alone. Before it paints, the network therefore predicts how far each place follows
    the warp and an additional offset (as arXiv 2003.00196 does with motion from key points), for hair, neck and
    shoulders. This motion is low-resolution and smooth, so that hair is not torn off; a matte keeps the background in
    place.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.warp_prior = config.warp_prior
        down_channels = config.generator_channels
        in_channels = _NUM_INPUT_CHANNELS if config.warp_prior else 3
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
                sn_conv(skipped, decoded, 3 if skipped == in_channels else 1)
                for skipped, decoded in zip(finer, reversed(down_channels), strict=True)
            )
            self.head: nn.Module = _zero_conv(channels, 4)
            self.motion_at = max(len(down_channels) - _MOTION_HALVINGS - 1, 0)
            self.motion = _zero_conv(down_channels[-1 - self.motion_at], 3)
        else:
            self.head = sn_conv(channels, 3, 3)
        self.projection = sn_linear(config.embedding_size, self.num_adain_values)
        self._initialise_adain()

    def _initialise_adain(self) -> None:
        """Let AdaIN start as plain instance norm: scales near one, biases near zero."""
        with torch.no_grad():
            bias = torch.cat([_unit_scales(block.in_channels, block.out_channels) for block in self._adain_blocks()])
            head = torch.cat([torch.ones(self.head_channels), torch.zeros(self.head_channels)])
            self.projection.get_parameter("bias").copy_(torch.cat([bias, head]))

    def _adain_blocks(self) -> list[AdaINResidualBlock]:
        return [block for block in [*self.bottleneck, *self.up] if isinstance(block, AdaINResidualBlock)]

    @property
    def num_adain_values(self) -> int:
        """Number of AdaIN values, the length of psi' = P e."""
        return sum(block.num_adain_values for block in self._adain_blocks()) + 2 * self.head_channels

    def adain_values(self, embedding: Float[Tensor, "batch embedding"]) -> Float[Tensor, "batch values"]:
        """Return psi' = P e."""
        values: Tensor = self.projection(embedding)
        return values

    def forward(
        self,
        landmark_image: Float[Tensor, "batch 3 h w"],
        adain_values: Float[Tensor, "batch values"],
        warped: WarpInput | None = None,
    ) -> GeneratedFrame:
        """Generate one frame per landmark image.

        Raises:
            ValueError: there is a warped shot but no warp prior, or the other way round.
        """
        if self.warp_prior != (warped is not None):
            raise ValueError(f"this generator was built with warp_prior={self.warp_prior}")
        *block_values, head_values = adain_values.split(
            [block.num_adain_values for block in self._adain_blocks()] + [2 * self.head_channels], dim=1
        )
        if warped is None:
            return self._generate(landmark_image, block_values, head_values)
        return self._generate_from_warp(landmark_image, warped, block_values, head_values)

    def _generate(
        self, landmark_image: Float[Tensor, "batch 3 h w"], block_values: Sequence[Tensor], head_values: Tensor
    ) -> GeneratedFrame:
        """The published form: every pixel is generated."""
        features = self._bottleneck(self._encode(landmark_image)[0], block_values)
        for index, values in enumerate(block_values[len(self.bottleneck) :]):
            features = self._upsample(index, features, values)
        return GeneratedFrame(torch.tanh(self._head(features, head_values)))

    def _generate_from_warp(
        self,
        landmark_image: Float[Tensor, "batch 3 h w"],
        warped: WarpInput,
        block_values: Sequence[Tensor],
        head_values: Tensor,
    ) -> GeneratedFrame:
        """Move the warped shot further, then paint over it."""
        features, inputs = self._encode(_network_input(landmark_image, warped, warped.frame, warped.field))
        features = self._bottleneck(features, block_values)
        field, moved_shot = warped.field, warped.frame
        for index, values in enumerate(block_values[len(self.bottleneck) :]):
            is_last = index == len(self.up) - 1
            # Paint is a change of the moved shot, so the skip at full resolution shows that one.
            skipped = _network_input(landmark_image, warped, moved_shot, field) if is_last else inputs[-1 - index]
            features = self._upsample(index, features, values) + self.skips[index](skipped)
            if index == self.motion_at:
                field = self._move(warped.field, features)
                moved_shot = warped.moved(field)
        paint, logit = self._head(features, head_values).split([3, 1], dim=1)
        moved = moved_shot[:, :3]
        colour = torch.tanh(torch.atanh(moved.clamp(-_MAX_COLOUR, _MAX_COLOUR)) + paint)
        alpha = torch.sigmoid(logit + _WARP_LOGIT_BIAS)
        return GeneratedFrame(alpha * moved + (1 - alpha) * colour, Composite(moved, field, alpha, colour))

    def _encode(self, x: Float[Tensor, "batch channels h w"]) -> tuple[Float[Tensor, "..."], list[Tensor]]:
        """Return the downsampling part's output, and the input of each of its resolutions, the finest first."""
        inputs = []
        for block in self.down:
            if not isinstance(block, SelfAttention):
                inputs.append(x)
            x = block(x)
        return x, inputs

    def _bottleneck(self, features: Float[Tensor, "..."], block_values: Sequence[Tensor]) -> Float[Tensor, "..."]:
        for block, values in zip(self.bottleneck, block_values[: len(self.bottleneck)], strict=True):
            features = block(features, values)
        return features

    def _upsample(self, index: int, features: Float[Tensor, "..."], values: Tensor) -> Float[Tensor, "..."]:
        """Apply one block of the upsampling part and, where there is one, its self-attention."""
        features = self.up[index](features, values)
        return self.attention[str(index)](features) if str(index) in self.attention else features

    def _head(self, features: Float[Tensor, "..."], values: Tensor) -> Float[Tensor, "batch channels h w"]:
        painted: Tensor = self.head(F.relu(adain(features, *values.chunk(2, dim=1)))).float()
        return painted

    def _move(self, field: WarpField, features: Float[Tensor, "batch channels h2 w2"]) -> WarpField:
        """Return the warp field with its displacement scaled by `1 - still` and offset by `further`.

        Both are predicted at reduced resolution, in [-1, 1]; the offset is in units of `_MAX_OFFSET`.
        """
        motion = torch.tanh(_MOTION_GAIN * self.motion(F.relu(F.instance_norm(features))).float())
        motion = F.interpolate(
            smooth(motion, _SMOOTHINGS), size=field.spline.shape[1:3], mode="bilinear", align_corners=False
        )
        still, further = motion.permute(0, 2, 3, 1).split([1, 2], dim=3)
        return field.with_spline((1 - still) * field.spline + _MAX_OFFSET * further)


def _network_input(
    landmark_image: Float[Tensor, "batch 3 h w"],
    warped: WarpInput,
    frame: Float[Tensor, "batch 4 h w"],
    field: WarpField,
) -> Float[Tensor, "batch channels h w"]:
    """Stack the target's landmark image, the warped frame and matte, the shot's matte, its warped landmark image, and
    the displacement."""
    displacements = _DISPLACEMENT_GAIN * warped.displacement(field).permute(0, 3, 1, 2)
    return torch.cat([landmark_image, frame, warped.matte, warped.landmark_image, displacements], dim=1)


def _zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a convolution initialised to zero, so that an untrained network shows the warp. It has no spectral norm,
    which would rescale its weights."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _unit_scales(in_channels: int, out_channels: int) -> Float[Tensor, "values"]:
    ones_and_zeros = [torch.ones(in_channels), torch.zeros(in_channels), torch.ones(out_channels)]
    return torch.cat([*ones_and_zeros, torch.zeros(out_channels)])
