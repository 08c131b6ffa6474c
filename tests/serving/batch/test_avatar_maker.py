"""The arguments that `animate` passes to fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.faces.face import Face, make_face
from serving.batch import avatar_maker
from serving.batch.avatar_maker import AvatarOptions, ModelAvatarMaker
from serving.batch.inputs import Input
from serving.batch.items import AvatarSource
from serving.batch.workspace import Workspace
from training.avatars.finetune import FineTuneConfig
from training.checkpoints.shipped import named_or_shipped
from training.losses.perceptual_files import PerceptualFiles

PICTURE = Path("pipelines/assets/data/mona_lisa.jpg")


class AlwaysDetects:
    """Detects one face in every image."""

    def detect(self, image: np.ndarray) -> list[Face]:
        return [make_face(np.random.default_rng(0).uniform(100, 300, (68, 2)), 1.0)]


@pytest.mark.slow
def test_pictures_are_fine_tuned_with_the_given_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []

    def fine_tune(*arguments: object) -> None:
        received.extend(arguments)
        raise ValueError("enough")

    monkeypatch.setattr("training.avatars.finetune.fine_tune", fine_tune)
    monkeypatch.setattr(avatar_maker, "create_picture_detector", lambda name: AlwaysDetects())
    files = PerceptualFiles("/w/vgg19.pth", "/w/vggface.pth")
    options = AvatarOptions(named_or_shipped(None), num_steps=3, perceptual_files=files, device="cpu")
    source = AvatarSource(Input("picture", str(PICTURE.absolute()), "mona_lisa", "0" * 64))
    with pytest.raises(ValueError, match="enough"):
        ModelAvatarMaker(options, Workspace(str(tmp_path), tmp_path)).avatar(source, lambda done, total: None)
    model, portraits, config, _, given, device = received
    assert [portrait.name for portrait in portraits] == ["mona_lisa.jpg"]  # type: ignore[attr-defined]
    assert config == FineTuneConfig(num_steps=3)
    assert given == files
    assert device == torch.device("cpu")
    assert model.config.perceptual == "vgg16"  # type: ignore[attr-defined]
