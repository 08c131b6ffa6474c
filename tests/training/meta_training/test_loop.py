import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.dataset.reader import ShardDataset
from pipelines.faces.crop import CropRule
from training.checkpoints.bundle import TrainingProvenance, load_bundle
from training.config import TrainConfig
from training.episodes.batch import Batch
from training.episodes.source import open_dataset
from training.losses import loss_networks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.loop import Request, check_memory, train
from training.meta_training.nan_guard import NotFiniteError
from training.meta_training.step import Learner, Outcome, Snapshot
from training.models.identity_rows import IdentityRows

CPU = torch.device("cpu")
MakeTrain = Callable[..., TrainConfig]
MakeDataset = Callable[..., ShardDataset]


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch, random_perceptual: PerceptualNetwork) -> None:
    monkeypatch.setattr(loss_networks, "load_perceptual", lambda config, files: random_perceptual)


class Recorder:
    """Keeps what the loop says; writes bundles to a folder."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.requests: dict[int, Request] = {}
        self.urgent: dict[int, bool] = {}
        self.logged: dict[int, Mapping[str, float]] = {}
        self.samples: dict[int, np.ndarray] = {}
        self.fixed_content: list[float] = []
        self.origins: list[TrainingProvenance] = []

    def request(self, step: int) -> Request:
        return Request.STOP if step == self.stop_at else self.requests.get(step, Request.NOTHING)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged[step] = metrics

    def sample(self, step: int, grid: np.ndarray, metrics: Mapping[str, float]) -> None:
        self.samples[step] = grid
        self.fixed_content.append(metrics["content_fixed_episodes"])

    def checkpoint(
        self, snapshot: Snapshot, origin: TrainingProvenance, metrics: Mapping[str, float], *, urgent: bool
    ) -> None:
        self.urgent[origin.step] = urgent
        self.origins.append(origin)
        save_bundle(str(self.folder / str(origin.step)), snapshot, origin)


@pytest.fixture
def run(make_dataset: MakeDataset, tmp_path: Path) -> Callable[..., Recorder]:
    """`run(config, stop_at=..., resume=...)`: the loop on three drawn videos; its recorder."""
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1")

    def make(
        config: TrainConfig, *, stop_at: int | None = None, checkpoint: Path | None = None, name: str = "run"
    ) -> Recorder:
        recorder = Recorder(tmp_path / name, stop_at)
        data = open_dataset(dataset.root, config)
        train(config, data, recorder, SingleProcess(), CPU, checkpoint and str(checkpoint))
        return recorder

    return make


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_may_be_resumed_with_more_steps_but_no_other_change(
    run: Callable[..., Recorder], tiny_train: MakeTrain, tmp_path: Path
) -> None:
    run(tiny_train(num_steps=2), name="short")
    longer = run(tiny_train(num_steps=4), checkpoint=tmp_path / "short" / "2", name="long")
    assert list(longer.logged) == [3, 4]
    with pytest.raises(ValueError, match=r"another configuration: seed: 0 -> 5"):
        run(tiny_train(num_steps=4, seed=5), checkpoint=tmp_path / "short" / "2", name="other")


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> list[int]:
    """Frames that are no numbers in the steps of which `bad` says so, counted from 0; the steps that were tried."""
    step, tried = Learner.step, list[int]()

    def act(self: Learner, batch: Batch, num_episodes: int | None = None) -> Outcome:
        tried.append(len(tried))
        if bad(tried[-1]):
            batch.target[0] = float("nan")
        return step(self, batch, num_episodes)

    monkeypatch.setattr(Learner, "step", act)
    return tried


@pytest.mark.slow
def test_83_steps_that_are_not_finite_are_skipped_counted_and_told(
    run: Callable[..., Recorder], tiny_train: MakeTrain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, lambda number: number in {1, 2, 5})
    config = tiny_train(num_steps=6, log_every=3, checkpoint_every=3, max_bad_steps=3)
    recorder = run(config)
    assert [recorder.logged[step]["skipped_steps"] for step in (3, 6)] == [2, 3]
    assert recorder.logged[6]["rollbacks"] == 0
    assert np.isfinite(recorder.logged[6]["generator"])
    assert recorder.origins[-1].skipped_steps == 3
    # A run that goes on counts on.
    monkeypatch.undo()
    monkeypatch.setattr(loss_networks, "load_perceptual", lambda config, files: PerceptualNetwork("alexnet"))
    again = run(dataclasses.replace(config, num_steps=7), checkpoint=tmp_path / "run" / "6", name="again")
    assert again.logged[7]["skipped_steps"] == 3


@pytest.mark.slow
def test_83_training_goes_back_to_its_last_checkpoint_and_on_with_other_episodes(
    run: Callable[..., Recorder],
    tiny_train: MakeTrain,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(monkeypatch, lambda number: 3 <= number < 6)
    config = tiny_train(num_steps=6, checkpoint_every=2, max_bad_steps=3)
    recorder = run(config)
    assert (recorder.origins[-1].skipped_steps, recorder.origins[-1].rollbacks) == (3, 1)
    assert "gradient norm nan in 3 steps in a row: back to the last checkpoint" in caplog.text
    # Step 3 was made and then taken back; checkpoints of 2 and 6 are the same but for what they say of themselves.
    two, six = (tmp_path / "run" / step for step in ("2", "6"))
    for name in ("generator", "discriminator", "ema_embedder", "identity_rows"):
        assert (two / f"{name}.safetensors").read_bytes() == (six / f"{name}.safetensors").read_bytes(), name


@pytest.mark.slow
def test_a_rollback_comes_at_the_next_log_and_takes_back_the_steps_since(
    run: Callable[..., Recorder], tiny_train: MakeTrain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, lambda number: 1 <= number < 4)
    recorder = run(tiny_train(num_steps=7, log_every=5, checkpoint_every=100, max_bad_steps=3))
    # Steps 2 to 4 were skipped, step 5 was made; at its log the run is back at its beginning.
    assert {"skipped_steps": 3.0, "rollbacks": 1.0}.items() <= recorder.logged[5].items()
    assert torch.load(tmp_path / "run" / "7" / "optimizer.pt", weights_only=True)["ema_updates"] == 2


@pytest.mark.slow
def test_83_a_run_that_never_recovers_ends_and_says_what_it_tried(
    run: Callable[..., Recorder], tiny_train: MakeTrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = spoil(monkeypatch, lambda number: number >= 1)
    with pytest.raises(NotFiniteError, match=r"nan in 3 steps in a row, and going back .* has not helped 2 times"):
        run(tiny_train(num_steps=50, max_bad_steps=3, max_rollbacks=2))
    assert len(tried) == 1 + 3 * 3


@pytest.mark.slow
def test_a_notice_brings_a_checkpoint_that_is_in_its_place_before_the_next_step(
    make_dataset: MakeDataset, tiny_train: MakeTrain, tmp_path: Path
) -> None:
    config = tiny_train(num_steps=6, checkpoint_every=4, log_every=1)
    recorder = Recorder(tmp_path / "run")
    recorder.requests = {2: Request.CHECKPOINT}
    train(config, open_dataset(make_dataset("ann/v1").root, config), recorder, SingleProcess(), CPU, None)
    assert recorder.urgent == {2: True, 4: False, 6: True}
    assert list(recorder.logged) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
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
        open_dataset(root, dataclasses.replace(config, model=dataclasses.replace(config.model, detector="dlib")))
    with pytest.raises(ValueError, match="crop rule"):
        open_dataset(root, dataclasses.replace(config, model=dataclasses.replace(config.model, crop=CropRule(1.5))))
    with pytest.raises(ValueError, match=r"none of the 1 training videos of .* has K \+ 1 = 5 frames"):
        open_dataset(root, tiny_train(num_shots=4))
    with pytest.raises(ValueError, match=r"no dataset\.json"):
        open_dataset(str(tmp_path), config)


@pytest.mark.slow
def test_videos_with_too_few_frames_are_left_out(make_dataset: MakeDataset, tiny_train: MakeTrain) -> None:
    data = open_dataset(make_dataset("ann/v1", "bob/v1", num_frames=3).root, tiny_train())
    assert [video.video_id for video in data.videos] == ["ann/v1", "bob/v1"]


def test_rows_beyond_the_memory_of_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = IdentityRows(["ann/v1", "bob/v1"], 1000, learning_rate=0.1)  # 2 x (2 x 4,000 + 8) bytes
    for memory in (16_016, 16_015):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, memory=memory: SimpleNamespace(total_memory=memory)
        )
        if memory == 16_016:
            check_memory(table, torch.device("cuda"))
            continue
        with pytest.raises(ValueError, match=r"2 identity rows take 0\.0 GB and the GPU has 0\.0 GB: they are not"):
            check_memory(table, torch.device("cuda"))
    check_memory(table, CPU)
