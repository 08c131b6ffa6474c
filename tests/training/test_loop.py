import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.faces import CropRule
from pipelines.shards import ShardDataset
from training import loop
from training.checkpoint import Origin, load_bundle, save_bundle
from training.config import TrainConfig
from training.exchange import SingleProcess
from training.loop import open_data, train
from training.perceptual import PerceptualNetwork
from training.step import Batch, Learner, NotFiniteError

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]
MakeDataset = Callable[..., ShardDataset]


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch, random_perceptual: PerceptualNetwork) -> None:
    monkeypatch.setattr(loop, "load_perceptual", lambda config, files: random_perceptual)


class Recorder:
    """Keeps what the loop says; writes bundles to a folder."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.logged: dict[int, Mapping[str, float]] = {}
        self.samples: dict[int, np.ndarray] = {}
        self.fixed_content: list[float] = []
        self.origins: list[Origin] = []

    def stop(self, step: int) -> bool:
        return step == self.stop_at

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged[step] = metrics

    def sample(self, step: int, grid: np.ndarray, metrics: Mapping[str, float]) -> None:
        self.samples[step] = grid
        self.fixed_content.append(metrics["content_fixed_episodes"])

    def checkpoint(self, learner: Learner, origin: Origin, metrics: Mapping[str, float]) -> None:
        self.origins.append(origin)
        save_bundle(str(self.folder / str(origin.step)), learner, origin)


@pytest.fixture
def run(make_dataset: MakeDataset, tmp_path: Path) -> Callable[..., Recorder]:
    """`run(config, stop_at=..., resume=...)`: the loop on three drawn videos; its recorder."""
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1")

    def make(
        config: TrainConfig, *, stop_at: int | None = None, checkpoint: Path | None = None, name: str = "run"
    ) -> Recorder:
        recorder = Recorder(tmp_path / name, stop_at)
        data = open_data(dataset.root, config)
        train(config, data, recorder, SingleProcess(), CPU, checkpoint and str(checkpoint))
        return recorder

    return make


def test_logs_samples_and_checkpoints_come_when_they_are_due(
    run: Callable[..., Recorder], tiny_train: MakeTrain
) -> None:
    config = tiny_train(warp_prior=True, num_steps=7, log_every=2, sample_every=3, checkpoint_every=4)
    recorder = run(config)
    assert list(recorder.logged) == [2, 4, 6, 7]
    assert list(recorder.samples) == [3, 6, 7]
    assert len(set(recorder.fixed_content)) == 3  # measured anew each time
    assert [origin.step for origin in recorder.origins] == [4, 7]
    assert recorder.origins[0].images_seen == 4 * config.episodes_per_step
    assert len(recorder.origins[0].dataset_digest) == 64
    metrics = recorder.logged[7]
    assert {"content", "adversarial", "feature_matching", "embedding_match", "discriminator"} <= metrics.keys()
    assert metrics["skipped_steps"] == 0
    assert metrics["images_per_second"] > 0
    assert 0 <= metrics["data_wait_share"] <= 1


@pytest.mark.parametrize(("warp_prior", "columns"), [(True, 5), (False, 4)])
def test_samples_show_shot_landmarks_warp_drawing_and_truth(
    warp_prior: bool, columns: int, run: Callable[..., Recorder], tiny_train: MakeTrain
) -> None:
    recorder = run(tiny_train(warp_prior=warp_prior, num_steps=2, sample_every=1))
    assert recorder.samples[1].shape == (3 * 32, columns * 32, 3)
    same = [
        np.array_equal(a, b) for a, b in zip(*(np.hsplit(recorder.samples[s], columns) for s in (1, 2)), strict=True)
    ]
    assert same == [True] * (columns - 2) + [False, True]


@pytest.mark.parametrize("warp_prior", [True, False])
def test_an_interrupted_run_ends_with_the_very_same_weights(
    warp_prior: bool, run: Callable[..., Recorder], tiny_train: MakeTrain, tmp_path: Path
) -> None:
    config = tiny_train(warp_prior=warp_prior, num_steps=6, checkpoint_every=100, log_every=2)
    run(config, name="whole")
    stopped = run(config, stop_at=4, name="first")
    assert [origin.step for origin in stopped.origins] == [4]
    run(config, checkpoint=tmp_path / "first" / "4", name="second")
    whole, parts = (tmp_path / name / "6" for name in ("whole", "second"))
    for file in sorted(path.name for path in whole.iterdir()):
        if file not in ("manifest.json", "optimizer.pt"):
            assert (whole / file).read_bytes() == (parts / file).read_bytes(), file
    states = [torch.load(folder / "optimizer.pt", weights_only=True) for folder in (whole, parts)]
    assert states[0]["ema_updates"] == states[1]["ema_updates"] == 6
    for name in ("generator", "discriminator"):
        for key, moments in states[0][name]["state"].items():
            for field, value in moments.items():
                assert torch.equal(value, states[1][name]["state"][key][field])


def test_a_run_may_be_resumed_with_more_steps_but_no_other_change(
    run: Callable[..., Recorder], tiny_train: MakeTrain, tmp_path: Path
) -> None:
    run(tiny_train(num_steps=2), name="short")
    longer = run(tiny_train(num_steps=4), checkpoint=tmp_path / "short" / "2", name="long")
    assert list(longer.logged) == [3, 4]
    with pytest.raises(ValueError, match=r"another configuration: seed: 0 -> 5"):
        run(tiny_train(num_steps=4, seed=5), checkpoint=tmp_path / "short" / "2", name="other")


def test_steps_that_are_not_finite_are_counted_and_too_many_end_the_run(
    run: Callable[..., Recorder], tiny_train: MakeTrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Learner.step, iter(range(100))

    def sometimes(bad: set[int]) -> Callable[[Learner, Batch], dict[str, float]]:
        def act(self: Learner, batch: Batch) -> dict[str, float]:
            if next(calls) in bad:
                batch.target[0] = float("nan")
            return step(self, batch)

        return act

    monkeypatch.setattr(Learner, "step", sometimes({1, 2}))
    recorder = run(tiny_train(num_steps=4, log_every=4, max_bad_steps=3))
    assert recorder.logged[4]["skipped_steps"] == 2
    assert np.isfinite(recorder.logged[4]["generator"])
    calls = iter(range(100))
    monkeypatch.setattr(Learner, "step", sometimes(set(range(1, 100))))
    with pytest.raises(NotFiniteError):
        run(tiny_train(num_steps=50, max_bad_steps=3))
    assert next(calls) == 4


def test_the_averaged_networks_are_what_is_loaded(
    run: Callable[..., Recorder], tiny_train: MakeTrain, tmp_path: Path
) -> None:
    config = tiny_train(num_steps=3, ema_decay=0.5)
    run(config)
    model = load_bundle(str(tmp_path / "run" / "3"))
    assert model.config == config
    assert model.origin.step == 3
    assert not model.generator.training


def test_a_data_set_that_does_not_fit_is_refused_by_name(
    make_dataset: MakeDataset, tiny_train: MakeTrain, tmp_path: Path
) -> None:
    root = make_dataset("ann/v1", num_frames=4).root
    config = tiny_train()
    with pytest.raises(ValueError, match=r"landmark detector mediapipe, the model wants dlib"):
        open_data(root, dataclasses.replace(config, model=dataclasses.replace(config.model, detector="dlib")))
    with pytest.raises(ValueError, match="crop rule"):
        open_data(root, dataclasses.replace(config, model=dataclasses.replace(config.model, crop=CropRule(1.5))))
    with pytest.raises(ValueError, match=r"none of the 1 training videos of .* has K \+ 1 = 5 frames"):
        open_data(root, tiny_train(num_shots=4))
    with pytest.raises(ValueError, match=r"no dataset\.json"):
        open_data(str(tmp_path), config)


def test_videos_with_too_few_frames_are_left_out(make_dataset: MakeDataset, tiny_train: MakeTrain) -> None:
    data = open_data(make_dataset("ann/v1", "bob/v1", num_frames=3).root, tiny_train())
    assert [video.video_id for video in data.videos] == ["ann/v1", "bob/v1"]
