"""Fine-tuning without downloads."""

import pytest

from training.losses import loss_networks
from training.losses.perceptual import PerceptualNetwork


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch, random_perceptual: PerceptualNetwork) -> None:
    monkeypatch.setattr(loss_networks, "load_perceptual", lambda config, files: random_perceptual)
