"""Named configurations, each a function: `paper`, `paper_ff`, `small`, `base`, `demo`."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipelines.faces.landmark_image import RasterConfig
from training.config import LossWeights, ModelConfig, TrainConfig

_VOXCELEB2_VIDEOS = 145_569
_HELD_TO_PIXELS_AND_FACES = LossWeights(pixel=50.0, identity=60.0, content_mouth=0.1)


def paper() -> TrainConfig:
    """FSTH-FT: 75 epochs over VoxCeleb2 at 256 px, with the embedding match, for use with fine-tuning.

    All values follow the paper except the perceptual network, whose weights the user supplies
    (docs/explanation/fidelity.md).
    """
    model = ModelConfig(raster=RasterConfig(inner_lip=False))
    return TrainConfig(model=model, ema_warm_up=False, num_steps=75 * _VOXCELEB2_VIDEOS // 48)


def paper_ff() -> TrainConfig:
    """FSTH-FF: 150 epochs without the embedding match, used without fine-tuning."""
    return replace(paper(), losses=LossWeights(embedding_match=0.0), num_steps=150 * _VOXCELEB2_VIDEOS // 48)


def small() -> TrainConfig:
    """128 px, half the channels, with the warp prior; a single GPU trains it in a day."""
    model = ModelConfig(
        image_size=128,
        generator_channels=(32, 64, 128, 256),
        embedder_channels=(32, 64, 128, 256, 256),
        attention_size_down=16,
        attention_size_up=32,
        warp_prior=True,
    )
    return TrainConfig(model=model, losses=_HELD_TO_PIXELS_AND_FACES, num_steps=200_000, episodes_per_step=32)


def base() -> TrainConfig:
    """96 px, a quarter of the channels, warp prior; hours on two CPU cores. The bundled base model uses it."""
    model = replace(demo().model, image_size=96, attention_size_down=12, attention_size_up=24)
    return replace(
        demo(),
        model=model,
        losses=_HELD_TO_PIXELS_AND_FACES,
        num_steps=6000,
        ema_decay=0.995,
        sample_every=250,
        checkpoint_every=250,
    )


def demo() -> TrainConfig:
    """64 px, a quarter of the channels, warp prior; about three minutes on two CPU cores."""
    model = ModelConfig(
        image_size=64,
        generator_channels=(16, 32, 64, 128),
        embedder_channels=(16, 32, 64, 128),
        num_bottleneck_blocks=2,
        attention_size_down=8,
        attention_size_up=16,
        warp_prior=True,
    )
    return TrainConfig(
        model=model,
        num_shots=4,
        episodes_per_step=8,
        num_steps=160,
        learning_rate=5e-4,
        learning_rate_discriminator=5e-4,
        ema_decay=0.98,
        sample_every=40,
        checkpoint_every=100,
    )


PRESETS: Mapping[str, Callable[[], TrainConfig]] = {
    "paper": paper,
    "paper_ff": paper_ff,
    "small": small,
    "base": base,
    "demo": demo,
}
