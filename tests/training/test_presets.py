"""The presets against the specification: every number here is typed from it, none computed by the code."""

import dataclasses
import inspect

import pytest
import torch
from torch import Tensor, nn

from pipelines.faces.landmark_image import RasterConfig
from training.config import Augmentation, LossWeights, TrainConfig
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.models.layers import AdaINResidualBlock, ResidualBlock, SelfAttention, StemBlock, num_parameters
from training.presets import PRESETS, base, demo, paper, paper_ff, small

BLOCKS = (StemBlock, ResidualBlock, AdaINResidualBlock, SelfAttention)


def block_shapes(network: nn.Module, *inputs: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Each block that the network runs, in order, with the shape of what comes out, on the meta device."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    def see(block: nn.Module, _: object, out: Tensor) -> None:
        seen.append((type(block).__name__, tuple(out.shape[1:])))

    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.register_forward_hook(
                lambda block, _, out: seen.append((type(block).__name__, tuple(out.shape[1:])))
            )
    network.to("meta").eval()(*(torch.empty(1, *shape, device="meta") for shape in inputs))
    return seen


def down(first: int, *blocks: tuple[int, int], attention_after: int) -> list[tuple[str, tuple[int, ...]]]:
    """A stem and residual blocks of (channels, side), with an attention."""
    rows: list[tuple[str, tuple[int, ...]]] = []
    for number, (channels, side) in enumerate(blocks):
        rows.append(("StemBlock" if number == first else "ResidualBlock", (channels, side, side)))
        if side == attention_after:
            rows.append(("SelfAttention", (channels, side, side)))
    return rows


IDENTITY_BODY = down(
    0, (64, 128), (128, 64), (256, 32), (512, 16), (512, 8), (512, 4), attention_after=32
)  # fmt: skip
PICTURE = (3, 256, 256)


@pytest.mark.slow
def test_the_papers_networks_block_by_block() -> None:
    config = paper().model
    assert block_shapes(Embedder(config), PICTURE, PICTURE) == IDENTITY_BODY
    assert block_shapes(Discriminator(config), PICTURE, PICTURE, (512,)) == [
        *IDENTITY_BODY,
        ("ResidualBlock", (512, 4, 4)),
    ]
    assert block_shapes(Generator(config), PICTURE, (13_056,)) == [
        *down(0, (64, 128), (128, 64), (256, 32), (512, 16), attention_after=32),
        *[("AdaINResidualBlock", (512, 16, 16))] * 4,
        ("AdaINResidualBlock", (512, 32, 32)),
        ("AdaINResidualBlock", (256, 64, 64)),
        ("SelfAttention", (256, 64, 64)),
        ("AdaINResidualBlock", (128, 128, 128)),
        ("AdaINResidualBlock", (64, 256, 256)),
    ]


@pytest.mark.slow
def test_the_papers_parameters() -> None:
    config = paper().model
    embedder, generator, discriminator = Embedder(config), Generator(config), Discriminator(config)
    # By hand: a block of a to b channels holds 9ab + 9bb + ab weights and 3b biases; an attention of c channels c/4 * c
    # + cc weights, c/4 + c biases and gamma.
    body = sum(10 * a * b + 9 * b * b + 3 * b for a, b in ((6, 64), (64, 128), (128, 256), (256, 512)))
    body += 2 * (10 * 512 * 512 + 9 * 512 * 512 + 3 * 512) + 256 * (64 + 256) + 64 + 256 + 1
    assert num_parameters(embedder) == body == pytest.approx(15e6, rel=0.02)
    assert num_parameters(discriminator) == body + 2 * (9 * 512 * 512 + 512) + 512 + 1 == pytest.approx(20e6, rel=0.03)
    assert num_parameters(generator) == pytest.approx(38e6, rel=0.02)
    assert num_parameters(generator.projection) == 513 * 13_056 == pytest.approx(6.7e6, rel=0.01)
    assert config.embedding_size == 512


@pytest.mark.slow
def test_every_convolution_and_linear_layer_has_spectral_norm_of_eps_1e_4() -> None:
    config = paper().model
    layers = 0
    for network in (Embedder(config), Generator(config), Discriminator(config)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                (norm,) = module.parametrizations.weight  # type: ignore[union-attr]
                assert (type(norm).__name__, norm.eps) == ("_SpectralNorm", 1e-4)
                layers += 1
            if isinstance(module, SelfAttention):
                assert float(module.gamma.detach()) == 0
            if isinstance(module, nn.InstanceNorm2d):
                assert (module.eps, module.affine) == (1e-4, True)
    # Six blocks and an attention of three each, twice; D's last block; G's 4 + 4 + 4 blocks, two attentions, head, P.
    assert layers == 21 + (21 + 2) + (4 * 3 + 4 * 2 + 4 * 3 + 2 * 3 + 2)


def test_the_papers_losses_and_schedule() -> None:
    config = paper()
    assert config.losses == LossWeights(
        content=1.5e-1, content_face=2.5e-2, adversarial=1.0, feature_matching=10.0, embedding_match=10.0
    )
    assert (config.learning_rate, config.learning_rate_discriminator) == (5e-5, 2e-4)
    assert config.discriminator_updates == 2
    assert config.num_shots == 8
    assert (config.ema_decay, config.ema_warm_up) == (0.999, False)
    assert config.augmentation == Augmentation()
    assert config.model.raster == RasterConfig(thickness=2.0, inner_lip=False)
    assert config.model.image_size == 256
    assert not config.model.warp_prior


@pytest.mark.parametrize(("preset", "epochs"), [(paper, 75), (paper_ff, 150)])
def test_the_papers_epochs(preset: object, epochs: int) -> None:
    config = preset()  # type: ignore[operator]
    videos = config.num_steps * config.episodes_per_step
    assert videos / 145_569 == pytest.approx(epochs, abs=1e-3)
    assert TrainConfig().num_steps == paper().num_steps == 227_451
    documented = inspect.getsource(TrainConfig)
    assert "145,569 videos at 48 per step, 227,451" in documented


def test_feed_forward_is_the_same_without_the_embedding_match_and_twice_as_long() -> None:
    ours, theirs = paper_ff(), paper()
    assert ours.losses == dataclasses.replace(theirs.losses, embedding_match=0.0)
    assert dataclasses.replace(ours, losses=theirs.losses, num_steps=theirs.num_steps) == theirs


def test_small_is_half_as_large_with_half_the_channels_and_a_warp_prior() -> None:
    ours, theirs = small(), paper()
    assert ours.model.image_size == 128
    assert ours.model.generator_channels == tuple(channels // 2 for channels in theirs.model.generator_channels)
    # A picture of half the size reaches 4 x 4 a block earlier.
    assert ours.model.embedder_channels == (32, 64, 128, 256, 256)
    assert ours.model.warp_prior
    assert block_shapes(Embedder(ours.model), (3, 128, 128), (3, 128, 128))[-1] == ("ResidualBlock", (256, 4, 4))
    assert ours.losses == dataclasses.replace(theirs.losses, pixel=50.0, identity=60.0, content_mouth=0.1)
    assert (ours.learning_rate, ours.learning_rate_discriminator) == (5e-5, 2e-4)
    assert (ours.num_shots, ours.discriminator_updates) == (8, 2)


def test_demo_is_a_quarter_of_the_paper() -> None:
    ours = demo()
    assert ours.model.image_size == 64
    assert ours.model.generator_channels == (16, 32, 64, 128)
    assert ours.model.embedder_channels[-1] == 128
    assert ours.model.warp_prior


def test_base_is_demo_at_96_px_held_to_pixels_and_faces() -> None:
    ours, theirs = base(), demo()
    assert ours.model == dataclasses.replace(theirs.model, image_size=96, attention_size_down=12, attention_size_up=24)
    assert ours.losses == dataclasses.replace(theirs.losses, pixel=50.0, identity=60.0, content_mouth=0.1)
    assert list(PRESETS) == ["paper", "paper_ff", "small", "base", "demo"]
