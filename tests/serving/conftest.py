"""Small media files and a tiny base model for the tests of serving."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.media.sound import find_sound
from pipelines.media.video import VideoWriter

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make_video("a.mp4", levels=[0, 100], fps=25, size=(32, 48), sound=False): one grey frame a level."""

    def make(
        name: str,
        levels: list[int],
        fps: Fraction | int = 25,
        size: tuple[int, int] = (32, 48),
        sound: bool = False,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = size
        tone = _tone(tmp_path / f"{path.stem}-tone.mkv", len(levels) / Fraction(fps)) if sound else None
        heard = find_sound(tone, Fraction(0))[0] if tone else None
        with VideoWriter(path, width=width, height=height, fps=Fraction(fps), sound=heard) as writer:
            for level in levels:
                writer.write(np.full((height, width, 3), level, np.uint8))
        return path

    return make


def _tone(path: Path, seconds: Fraction) -> Path:
    rate = 8000
    samples = np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * 440 / rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 9000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.new("RGB", (16, 16), (200, 150, 100)).save(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny base model with random weights; its warp prior animates pictures without training."""
    import torch

    from training.checkpoints.bundle import TrainingProvenance
    from training.config import ModelConfig, TrainConfig
    from training.losses.loss_networks import LossNetworks
    from training.losses.perceptual import PerceptualNetwork
    from training.meta_training.checkpoint import save_bundle
    from training.meta_training.collectives import SingleProcess
    from training.meta_training.step import Learner
    from training.models.identity_rows import IdentityRows

    config = TrainConfig(
        model=ModelConfig(
            image_size=32,
            generator_channels=(8, 16),
            embedder_channels=(8, 16, 16),
            num_bottleneck_blocks=1,
            attention_size_down=0,
            attention_size_up=0,
            warp_prior=True,
        )
    )
    table = IdentityRows(["someone/video"], 16, learning_rate=1e-4)
    learner = Learner(
        config, table, LossNetworks(config.losses, PerceptualNetwork("alexnet")), SingleProcess(), torch.device("cpu")
    )
    save_bundle(str(tmp_path / "model"), learner.snapshot(), TrainingProvenance(0, 0, "none", "0" * 64))
    return tmp_path / "model"
