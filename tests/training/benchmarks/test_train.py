"""The benchmark's words, counts and what its ways do; never its seconds."""

import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sfumato
from pipelines.benchmarks.rounds import Cost
from pipelines.dataset.reader import ShardDataset
from training.benchmarks import step_variants
from training.benchmarks import train as bench
from training.benchmarks.reference_step import ReferenceData, ReferenceStep, write_files
from training.benchmarks.step_variants import CountingExchange, ReferenceVariant, SfumatoStep
from training.benchmarks.train import _ratios
from training.config import TrainConfig
from training.episodes.source import open_dataset, open_loader
from training.images import to_images
from training.losses import loss_networks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.plan.device_flops import count_flops, count_launches, count_waits, measure_flops

CPU = torch.device("cpu")
MakeDataset = Callable[..., ShardDataset]
MakeTrain = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tiny_train: MakeTrain) -> None:
    """Presets of tiny networks, and perceptual ones with random weights."""
    for module in (loss_networks, step_variants):
        monkeypatch.setattr(module, "load_perceptual", lambda config, files=None: PerceptualNetwork("alexnet").eval())
    monkeypatch.setattr(bench, "PRESETS", {"demo": lambda: tiny_train(warp_prior=True)})


@pytest.fixture
def ours(make_dataset: MakeDataset, tiny_train: MakeTrain) -> Iterator[SfumatoStep]:
    config = tiny_train(warp_prior=True)
    data = open_dataset(make_dataset("ann/v1", "bob/v1").root, config)
    with open_loader(config, data) as loader:
        yield SfumatoStep(config, data, loader, 1_500, CPU)


class Passes:
    """Every pass through a network: which, the shape it sees, and whether it keeps a graph."""

    def __init__(self, **networks: nn.Module) -> None:
        self.seen: list[tuple[str, tuple[int, ...], bool]] = []
        for name, network in networks.items():
            network.register_forward_hook(lambda _, inputs, __, name=name: self._see(name, inputs[0]))

    def _see(self, name: str, frames: Tensor) -> None:
        self.seen.append((name, tuple(frames.shape), torch.is_grad_enabled()))

    def of(self, act: Callable[[], object]) -> list[tuple[str, tuple[int, ...], bool]]:
        self.seen.clear()
        act()
        return sorted(self.seen)


@pytest.mark.slow
def test_the_networks_alone_make_the_passes_of_the_step_and_their_arithmetic(ours: SfumatoStep) -> None:
    learner = ours.learner
    passes = Passes(**learner.networks(), perceptual=learner.loss_networks.perceptual)
    step, alone = passes.of(lambda: ours.step(ours.many)), passes.of(ours.networks)
    assert step == alone
    # E and G once; D twice on eight frames to learn, once on the real and once on the generated ones.
    assert [name for name, *_ in step].count("discriminator") == 4
    assert sum(not keeps for *_, keeps in step) == 2
    assert count_flops(ours.networks) == count_flops(lambda: ours.step(ours.many)) > 0


@pytest.mark.slow
def test_the_networks_alone_change_no_weight(ours: SfumatoStep) -> None:
    before = {k: v.clone() for n in ours.learner.networks().values() for k, v in n.named_parameters()}
    ours.networks()
    after = {k: v for n in ours.learner.networks().values() for k, v in n.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.grad is None and value.requires_grad for value in after.values())


@pytest.mark.slow
def test_a_step_with_few_rows_learns_the_same_episodes_and_tells_as_much(ours: SfumatoStep) -> None:
    assert [len(table.video_ids) for table in (ours.many, ours.few)] == [1_500, 1_000]
    told = ours.step(ours.many), ours.step(ours.few)
    assert told[0] == told[1]
    # Of three phases: the gradients of D twice, those of E and G, and four rows of eight numbers with their ids.
    learner = ours.learner
    d = sum(p.numel() for p in learner.discriminator.parameters())
    g = sum(p.numel() for p in learner.generator_parameters)
    assert told[0] == 4 * (2 * d + g) + 3 * (4 * 8 * 4 + 4 * 8)
    assert int(ours.many.steps.sum()) == int(ours.few.steps.sum()) == 3 * len(set(ours.batch.rows.tolist()))


def test_bytes_by_hand() -> None:
    exchange = CountingExchange()
    parameter, idle = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(5))
    parameter.grad = torch.ones(3)
    assert float(exchange.sum_gradients([parameter, idle])) == pytest.approx(math.sqrt(3))
    assert exchange.num_bytes == 12
    exchange.gather_rows(torch.tensor([1, 4]), torch.ones(2, 7), 2)
    assert exchange.num_bytes == 12 + 2 * 8 + 2 * 7 * 4


@pytest.mark.slow
def test_each_feed_is_another_step_of_the_run(ours: SfumatoStep) -> None:
    a, b = ours.feed(), ours.feed()
    assert a.target.shape == (4, 3, 32, 32)
    assert a.warped is not None
    assert not torch.equal(a.target, b.target)


def test_an_item_of_the_reference_is_frames_of_one_video_with_their_landmark_images(
    make_dataset: MakeDataset, tiny_train: MakeTrain, tmp_path: Path
) -> None:
    dataset, config = make_dataset("ann/v1", "bob/v1", num_frames=3), tiny_train()
    write_files(dataset, dataset.videos("train"), tmp_path / "files")
    data = ReferenceData(tmp_path / "files", 3, config.model)
    assert len(data) == 2
    row, frames, images = data[1]
    assert row == 1
    assert frames.shape == images.shape == (3, 3, 32, 32)
    # All three frames, in some order: the same pictures as OpenCV makes of them.
    expected = [
        cv2.resize(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), (32, 32), interpolation=3)
        for jpeg, _ in dataset.read(dataset.videos("train")[1].frames)
    ]
    for picture in to_images(frames):
        assert min(np.abs(picture.astype(float) - other).mean() for other in expected) < 8
    assert images.min() == -1
    assert images.max() > 0.5


def test_the_reference_step_is_the_reproductions(tiny_train: MakeTrain) -> None:
    config = tiny_train()
    perceptual = PerceptualNetwork("alexnet").eval()
    reference = ReferenceStep(config, perceptual, 50, CPU)
    passes = Passes(
        e=reference.embedder, g=reference.generator, d=reference.discriminator, perceptual=reference.perceptual
    )
    rows, pictures = torch.tensor([3, 7]), torch.rand(2, 2, 3, 3, 32, 32) * 2 - 1
    before = reference.rows.detach().clone()
    seen = passes.of(lambda: reference(rows, pictures[0], pictures[1]))
    assert [name for name, *_ in seen] == ["d"] * 4 + ["e", "g"] + ["perceptual"] * 2
    assert all(keeps for *_, keeps in seen)
    # Every row goes through Adam, though only two have a gradient.
    state = reference.discriminator_optimizer.state[reference.rows]
    assert state["exp_avg"].shape == state["exp_avg_sq"].shape == (50, 8)
    assert int(state["step"]) == 2
    moved = (reference.rows.detach() != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [3, 7]
    assert all(parameter.grad is not None for parameter in perceptual.parameters())


def test_the_reference_sees_the_same_videos_and_has_no_warp(
    make_dataset: MakeDataset, tiny_train: MakeTrain, tmp_path: Path
) -> None:
    config = tiny_train(warp_prior=True)
    data = open_dataset(make_dataset("ann/v1", "bob/v1").root, config)
    reference = ReferenceVariant(config, data, 1_000, CPU, tmp_path / "files")
    rows, frames, images = reference.feed()
    assert set(rows.tolist()) <= {0, 1}
    assert frames.shape == images.shape == (4, 3, 3, 32, 32)
    reference.step()


@pytest.mark.slow
def test_arithmetic_by_hand() -> None:
    assert count_flops(lambda: torch.mm(torch.ones(2, 3), torch.ones(3, 5))) == 2 * 2 * 3 * 5
    assert 1e8 < measure_flops(CPU, "float32") < 1e14


def test_operations_and_waits_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(4)
    assert count_launches(lambda: (x[:2] + 1).view(2, 1).exp()) == 2  # views are none
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)

    def act() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    assert count_waits(act, torch.device("cuda")) == 3
    assert count_waits(lambda: None, CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_never_waits(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_dataset("ann/v1", "bob/v1").root
    figures = measure(capsys, "--data", root, "--episodes", "2", "--rows", "1200", "--device", "cuda")["figures"]
    assert figures["waits"] == {"step": 0, "feed": 0}
    assert figures["machine"]["device"] == torch.cuda.get_device_name()


def test_ratios_by_hand() -> None:
    seconds = {
        "networks": [10.0, 8.0],
        "step": [11.0, 10.0],
        "few rows": [11.0, 8.0],
        "feed": [1.0, 2.0],
        "reference step": [20.0, 22.0],
        "reference feed": [4.0, 2.0],
    }
    found = _ratios(seconds)
    assert found["step_over_networks"].median == pytest.approx((1.1 + 1.25) / 2)
    assert found["step_over_networks"].least == pytest.approx(10 / 8)
    assert found["many_over_few_rows"].least == pytest.approx(10 / 8)
    assert found["reference_over_ours"].median == pytest.approx(2)  # 24 / 12 both times
    assert found["reference_over_ours"].least == pytest.approx((20 + 2) / (10 + 1))
    del seconds["reference step"], seconds["reference feed"]
    assert _ratios(seconds).keys() == {"step_over_networks", "many_over_few_rows"}
    by_clock = bench._seconds({"step": [Cost(4.0, 3.0)]}, torch.device("cuda"))
    assert (by_clock, bench._seconds({"step": [Cost(4.0, 3.0)]}, CPU)) == ({"step": [3.0]}, {"step": [4.0]})


def measure(capsys: pytest.CaptureFixture[str], *arguments: str, rounds: int = 2) -> dict[str, Any]:
    assert sfumato.main(["bench", "train", "--preset", "demo", *arguments, "--rounds", str(rounds), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_the_command_measures_every_way_in_every_round(
    make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset("ann/v1", "bob/v1").root
    found = measure(capsys, "--data", root, "--episodes", "2", "--rows", "1200")
    assert found["counts"] == {"videos": 2, "episodes": 2, "rounds": 2}
    assert found["made"] == [{"what": "data set read", "where": root}]
    figures = found["figures"]
    assert figures["costs"].keys() == {"networks", "step", "few rows", "feed", "reference step", "reference feed"}
    assert all(len(rounds) == 2 for rounds in figures["costs"].values())
    assert figures["exchanged_bytes"]["few rows"] == figures["exchanged_bytes"]["many rows"] > 0
    assert len(figures["data_wait_shares"]) == 2
    assert all(0 <= share < 1 for share in figures["data_wait_shares"])
    assert figures["flops"] > 0
    assert 0 < figures["matrix_share"] < 1.5
    assert min(figures["launches"].values()) > 100
    assert figures["waits"] == {"step": None, "feed": None}  # no GPU
    assert figures["peak_bytes"] > 1e8
    assert {"cpu", "cores", "torch", "torch_threads", "preset", "precision", "rows"} <= figures["machine"].keys()
    assert figures["images_per_second"].keys() == {"step", "step and feed", "reference"}
    assert found["ratios"].keys() == {
        "step_over_networks", "many_over_few_rows", "reference_over_ours", "reference_step_over_step", "data_wait",
    }  # fmt: skip
    assert any(note.startswith("step over networks: ") for note in found["notes"])
    assert any(note.startswith("bytes exchanged: ") for note in found["notes"])


@pytest.mark.long
def test_the_reference_may_be_left_out_and_precision_chosen(
    make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset("ann/v1").root
    arguments = (
        "--data",
        root,
        "--episodes",
        "1",
        "--no-reference",
        "--shots",
        "1",
        "--channels-last",
        "--rows",
        "1000",
    )
    found = measure(capsys, *arguments, "--precision", "bfloat16", rounds=1)
    assert found["figures"]["machine"]["precision"] == "bfloat16"
    assert found["figures"]["machine"]["channels_last"] == "true"
    assert found["ratios"].keys() == {"step_over_networks", "many_over_few_rows", "data_wait"}


def test_what_cannot_be_measured_is_one_line(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset("ann/v1").root
    for arguments, code, message in (
        (["--data", str(tmp_path / "none")], 1, "has no dataset.json"),
        (["--data", root, "--shots", "9"], 1, "none of the 1 training videos"),
        (["--data", root, "--rounds", "0"], 2, "--rounds must be at least 1, got 0"),
        (["--data", root, "--episodes", "-1"], 2, "--episodes must be at least 1, got -1"),
        (["--data", root, "--rows", "10"], 2, "--rows must be at least 1000, got 10"),
        (["--data", root, "--device", "cuda:9"], 1, "--device cuda:9: there is no such CUDA device here"),
        (["--data", root, "--preset", "huge"], 2, "invalid choice 'huge'"),
        (["--data", root, "--epsiodes", "3"], 2, "unknown flag --epsiodes; did you mean --episodes?"),
    ):
        preset = [] if "--preset" in arguments else ["--preset", "demo"]
        assert sfumato.main(["bench", "train", *preset, *arguments]) == code, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
