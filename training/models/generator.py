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
from training.models.warp import WarpedShots, displacement, sample_shots

_WARP_LOGIT_BIAS = 1.0  # some of the paint is let through from the start: with a shut mask it would not learn
_WHITE = 0.99  # beyond it atanh grows without bound
_FURTHEST = 0.1  # half-sizes of the crop by which the network may move a place beside the warp
_CAUTION = 0.1  # a step of an optimiser must not throw the picture about: motion is learned slower than paint
_MOTION_HALVINGS = 2  # of the picture's size, until what moves is smooth enough
_NUM_SEEN = 3 + 3 + 3 + 2  # channels of `_seen`
_FRAME = slice(3, 6)  # those of the frame
_CHOICE_CHANNELS = 16
_NEAREST_FIRST = 4.0  # logits by which the nearest shot is ahead, until the network has learned to choose
_DECISION = 4.0  # factor of the logits: places of two shots, one over the other, are blurred
_LOUDNESS = 5.0  # of the warp's displacements, half-sizes, as the network sees them


@dataclass(frozen=True)
class Redrawing:
    """How a frame was made of shots: `alpha * moved + (1 - alpha) * colour`.

    `moved` is the shots sampled at `grids`, the warps' with what the network moves otherwise, each as much as its
    `shares` say, which sum to 1; `colour` is painted as a change of it, `tanh(atanh(moved) + paint)`. Pictures and
    grids are in [-1, 1], shares and alpha in [0, 1].
    """

    moved: Float[Tensor, "batch 3 h w"]
    grids: Float[Tensor, "batch shots h w 2"]
    shares: Float[Tensor, "batch shots 1 h w"]
    alpha: Float[Tensor, "batch 1 h w"]
    colour: Float[Tensor, "batch 3 h w"]


@dataclass(frozen=True)
class GeneratedFrame:
    """x_hat in [-1, 1], and its parts where there is a warp prior."""

    frame: Float[Tensor, "batch 3 h w"]
    parts: Redrawing | None = None


class Generator(nn.Module):
    """G(y, e): everything but P works on AdaIN values, so that fine-tuning can free them (section 3.3).

    With a warp prior each size on the way up also sees what the way down saw at that size: the warp's detail, which the
    narrow middle cannot carry. The published form has no such way round, since all of a face must come from e.

    The warp knows of the face alone. So before it paints, the network says which of the warped shots each place is
    taken from, how far it follows their warps at all, and moves it a little further (as arXiv 2003.00196 does with
    motion from key points): hair, neck, background.
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
        if config.warp_prior:
            self.choice = _choice(in_channels)
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
        warped: WarpedShots | None = None,
    ) -> GeneratedFrame:
        """Draw one frame per landmark image.

        Raises:
            ValueError: a warp prior without warped shots, or the other way round.
        """
        if self.warp_prior != (warped is not None):
            raise ValueError(f"this generator was built with warp_prior={self.warp_prior}")
        seen = landmark_image
        if warped is not None:
            each = _seen(landmark_image, warped, warped.frames, warped.grids)
            shares = self._choose(each)
            seen = blend(each, shares)
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
                grids = self._move(warped.grids, features)
                # What is painted is a change of the moved shots: the last way round shows those.
                finer[0] = blend(_seen(landmark_image, warped, sample_shots(warped.shots, grids), grids), shares)
                moved = finer[0][:, _FRAME]
        painted = self.head(F.relu(adain(features, *head_values.chunk(2, dim=1)))).float()
        if warped is None:
            return GeneratedFrame(torch.tanh(painted))
        paint, logit = painted.split([3, 1], dim=1)
        colour = torch.tanh(torch.atanh(moved.clamp(-_WHITE, _WHITE)) + paint)
        alpha = torch.sigmoid(logit + _WARP_LOGIT_BIAS)
        return GeneratedFrame(alpha * moved + (1 - alpha) * colour, Redrawing(moved, grids, shares, alpha, colour))

    def _choose(self, each: Float[Tensor, "batch shots seen h w"]) -> Float[Tensor, "batch shots 1 h w"]:
        """How much of each shot is taken at each place."""
        batch, shots, _, height, width = each.shape
        if shots == 1:
            return each.new_ones(batch, 1, 1, height, width)
        logits = _DECISION * self.choice(each.flatten(0, 1)).float()
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        logits = logits.unflatten(0, (batch, shots))
        ahead = _NEAREST_FIRST * (torch.arange(shots, device=logits.device) == 0)
        return torch.softmax(logits + ahead.view(-1, 1, 1, 1), dim=1)

    def _move(
        self, grids: Float[Tensor, "batch shots h w 2"], features: Float[Tensor, "batch channels h2 w2"]
    ) -> Float[Tensor, "batch shots h w 2"]:
        """The warps' grids, followed less (1: not at all, -1: twice as far) and moved further, by what features say."""
        motion = torch.tanh(_CAUTION * self.motion(F.relu(F.instance_norm(features))).float())
        motion = F.interpolate(motion, size=grids.shape[2:4], mode="bilinear", align_corners=False)
        still, further = motion.permute(0, 2, 3, 1)[:, None].split([1, 2], dim=4)
        moved: Tensor = grids - still * displacement(grids) + _FURTHEST * further
        return moved

    def _look(self, picture: Float[Tensor, "batch channels h w"]) -> tuple[Float[Tensor, "..."], list[Tensor]]:
        """The middle's input, and what was seen at each size before it, the finest first."""
        finer = []
        for block in self.down:
            if not isinstance(block, SelfAttention):
                finer.append(picture)
            picture = block(picture)
        return picture, finer


def blend(
    pictures: Float[Tensor, "batch shots channels H W"], shares: Float[Tensor, "batch shots 1 h w"]
) -> Float[Tensor, "batch channels H W"]:
    """Pictures of several shots over each other, each as much as its shares say; these may be coarser."""
    if pictures.shape[1] == 1:
        return pictures[:, 0]
    if shares.shape[-1] != pictures.shape[-1]:
        fine = F.interpolate(shares.flatten(0, 1), size=pictures.shape[-2:], mode="bilinear", align_corners=False)
        shares = fine.unflatten(0, shares.shape[:2])
    return (shares * pictures).sum(dim=1)


def _seen(
    landmark_image: Float[Tensor, "batch 3 h w"],
    warped: WarpedShots,
    frames: Float[Tensor, "batch shots 3 h w"],
    grids: Float[Tensor, "batch shots h w 2"],
) -> Float[Tensor, "batch shots seen h w"]:
    """For each shot what is asked for, what there is of it, and how that was bent."""
    bent = _LOUDNESS * displacement(grids).permute(0, 1, 4, 2, 3)
    asked = landmark_image[:, None].expand_as(frames)
    return torch.cat([asked, frames, warped.landmark_images, bent], dim=2)


def _choice(in_channels: int) -> nn.Sequential:
    """What says of a warped shot how fit it is, at a quarter of its size."""
    channels = _CHOICE_CHANNELS
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        _silent_conv(2 * channels, 1),
    )


def _silent_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution that says nothing yet: an untrained network shows the warp. Spectral norm would not let it."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _unit_scales(in_channels: int, out_channels: int) -> Float[Tensor, "values"]:
    ones_and_zeros = [torch.ones(in_channels), torch.zeros(in_channels), torch.ones(out_channels)]
    return torch.cat([*ones_and_zeros, torch.zeros(out_channels)])
