"""Training on synthetic people: the loop, its checkpoints and the model card."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.checkpoints.bundle import TrainingProvenance, load_bundle
from training.checkpoints.model_card import Training, model_card
from training.config import SyntheticConfig, TrainConfig
from training.episodes.online import OnlineSource
from training.losses import loss_networks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.loop import Request, train
from training.meta_training.step import Snapshot

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]


@pytest.fixture
def config(online_config: TrainConfig) -> TrainConfig:
    return online_config


class Recorder:
    """Keeps what the loop logs; writes bundles."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.losses: list[float] = []
        self.origins: list[TrainingProvenance] = []

    def request(self, step: int) -> Request:
        return Request.STOP if step == self.stop_at else Request.NOTHING

    def log(self, step: int, metrics: Any) -> None:
        self.losses.append(metrics["generator"])

    def sample(self, step: int, grid: np.ndarray, metrics: Any) -> None:
        assert grid.shape == (5 * 32, 5 * 32, 3)  # five people, five columns

    def checkpoint(self, snapshot: Snapshot, origin: TrainingProvenance, metrics: Any, *, urgent: bool) -> None:
        self.origins.append(origin)
        save_bundle(str(self.folder / str(origin.step)), snapshot, origin)


@pytest.fixture
def run(
    fake_people: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_perceptual: PerceptualNetwork
) -> Callable[..., Recorder]:
    """`run(config, "name", stop_at=..., checkpoint=...)`: the loop; its recorder."""
    monkeypatch.setattr(loss_networks, "load_perceptual", lambda config, files: random_perceptual)

    def make(config: TrainConfig, name: str, stop_at: int | None = None, checkpoint: str | None = None) -> Recorder:
        recorder = Recorder(tmp_path / name, stop_at)
        train(config, OnlineSource(config, fake_people.people), recorder, SingleProcess(), CPU, checkpoint)
        return recorder

    return make


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_very_same_weights_and_losses(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    config = dataclasses.replace(config, num_steps=4, online=SyntheticConfig(5, seconds=6.0, reuse=3))
    whole = run(config, "whole")
    first = run(config, "first", stop_at=2)
    second = run(config, "second", checkpoint=str(tmp_path / "first" / "2"))
    assert first.losses + second.losses == whole.losses
    for file in sorted(path.name for path in (tmp_path / "whole" / "4").iterdir()):
        if file not in ("manifest.json", "optimizer.pt"):
            paths = [tmp_path / name / "4" / file for name in ("whole", "second")]
            assert paths[0].read_bytes() == paths[1].read_bytes(), file


@pytest.mark.slow
def test_a_checkpoint_says_who_was_drawn_and_keeps_only_rows_that_were_met(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    config = dataclasses.replace(config, num_steps=1)
    recorder = run(config, "run")
    model = load_bundle(str(tmp_path / "run" / "1"))
    assert model.config.online == config.online
    assert model.config.model.detector == "mediapipe"
    assert recorder.origins[0].dataset == "online:people=5,seed=0,motion=clips"
    assert len(pq.read_table(tmp_path / "run" / "1" / "identity_rows.parquet")) == 4  # of five, in four episodes


@pytest.mark.slow
def test_another_number_of_people_is_another_run(
    config: TrainConfig, run: Callable[..., Recorder], tmp_path: Path
) -> None:
    run(dataclasses.replace(config, num_steps=1), "run")
    more = dataclasses.replace(config, num_steps=2, online=SyntheticConfig(6, seconds=6.0, reuse=1))
    with pytest.raises(ValueError, match=r"another configuration: online.num_people: 5 -> 6"):
        run(more, "more", checkpoint=str(tmp_path / "run" / "1"))


def test_the_card_of_such_a_model_names_no_data_set_to_go_back_to(config: TrainConfig, fake_people: Any) -> None:
    facts = OnlineSource(config, fake_people.people).facts
    training = Training("demo", "sfumato meta-train demo --synthetic -o run", "9.8.7", ("then",), "now")
    card = model_card(config, TrainingProvenance(3, 12, "online:people=5", facts.digest), facts, training, {})
    assert "5 synthetic people, drawn while training from seed 0, licence CC0" in card
    assert "Nobody's face was shown in training" in card
    assert "With version 9.8.7 of the code." in card
    assert "sfumato forget" not in card
    assert "clips, digest" not in card
