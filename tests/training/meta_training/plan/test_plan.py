"""What `meta-train --plan` says, against sums made by hand and figures that were measured."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
from training.config import ExecutionConfig, TrainConfig
from training.meta_training.plan import this_machine
from training.meta_training.plan.cards import CARDS, step_seconds
from training.meta_training.plan.counted_step import StepCounts, count_step
from training.meta_training.plan.report import on_cards
from training.meta_training.plan.sizes import exchanged_bytes, sent_bytes, sizes_of
from training.meta_training.plan.this_machine import episode_seconds
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator

MakeTrain = Callable[..., TrainConfig]

# `paper`: E, G and D have 14,907,265, 38,081,733 and 19,627,394 parameters; an episode 1.121 TFLOP
# (docs/experiments.md, 2026-11-24: Benchmarks).
PAPER = StepCounts(
    parameters={"embedder": 14_907_265, "generator": 38_081_733, "discriminator": 19_627_394},
    buffer_bytes={"embedder": 0, "generator": 0, "discriminator": 0},
    loss_network_bytes=40,
    flops=1_121_000_000_000,
    activation_bytes=1_000,
    launches=5_000,
    gradient_bytes=4 * (14_907_265 + 38_081_733 + 2 * 19_627_394),
    row_bytes=3 * (8 + 4 * 512),
)


def paper(**engine: object) -> TrainConfig:
    return TrainConfig(engine=replace(ExecutionConfig(), **engine))


def test_a_checkpoint_of_paper_with_all_rows_has_its_measured_size() -> None:
    sizes = sizes_of(paper(), PAPER, 145_569, 1)
    # A row: 512 values and 512 second moments of 4 bytes, and a count of 8.
    assert sizes.rows == 145_569 * 4_104 == 597_415_176
    assert sizes.weights == 4 * 72_616_392
    assert sizes.averages == 4 * 52_988_998
    assert sizes.optimizers == 2 * sizes.weights
    assert sizes.checkpoint == pytest.approx(1.68e9, rel=1e-3)  # docs/explanation/training.md
    assert sizes.gradients == sizes.weights


def test_memory_follows_workers_precision_and_micro_batch() -> None:
    for engine, workers, episodes_in_float32 in (
        ({}, 1, 48),
        ({}, 5, 10),  # 48 over 5: 10 at most
        ({"micro_batch": 4}, 1, 4),
        ({"micro_batch": 4}, 48, 1),
        ({"precision": "bfloat16"}, 1, 24),
    ):
        assert sizes_of(paper(**engine), PAPER, 8, workers).activations == 1_000 * episodes_in_float32
    one, two = (sizes_of(paper(), PAPER, 8, workers).gradients for workers in (1, 2))
    assert two - one == 4 * 52_988_998  # the flat copy of the larger of the two sums


def test_bytes_a_step_for_workers() -> None:
    assert exchanged_bytes(paper(), PAPER, 1) == sent_bytes(paper(), PAPER, 1) == 0
    # 24 episodes in three phases, an index of 8 bytes and 512 gradients of 4 each.
    assert exchanged_bytes(paper(), PAPER, 2) == 368_975_144 + 24 * 6_168
    # A ring of four: 2 x 3/4 of the gradients, and rows to three others.
    assert sent_bytes(paper(), PAPER, 4) == 553_462_716 + 3 * 12 * 6_168


def test_seconds_of_a_step_on_cards() -> None:
    # Eight A100: six episodes of 1.121 TFLOP at 40 % of 312 TFLOP/s are .0539 s, and 2 x 7/8 of 369 MB and 7 x 6 rows
    # of 6,168 bytes at 300 GB/s are .00215 s.
    best, worst = step_seconds(paper(), PAPER, CARDS["A100"], 8)
    assert best == pytest.approx(0.0539, abs=1e-4)  # the exchange is hidden
    assert worst == pytest.approx(0.1437 + 0.00215, abs=1e-4)
    # Little work waits for 5,000 operations of 5 and 10 µs, twice with two micro-batches.
    little = replace(PAPER, flops=1, gradient_bytes=0, row_bytes=0)
    assert step_seconds(paper(), little, CARDS["H100"], 1) == pytest.approx((0.025, 0.05))
    assert step_seconds(paper(micro_batch=24), little, CARDS["H100"], 1) == pytest.approx((0.05, 0.1))
    little_but_gradients = replace(PAPER, flops=1, launches=1)
    # Sixteen are two machines, with 12.5 GB/s between them.
    between, within = (step_seconds(paper(), little_but_gradients, CARDS["H100"], n) for n in (16, 8))
    assert between[0] > within[0]


def test_a_card_without_room_is_said() -> None:
    large = replace(PAPER, activation_bytes=10**9)  # 48 in bfloat16: 24 GB, and some two more
    assert [on_cards(paper(), large, 8, card, 1).fits for card in ("L4", "A100")] == [False, True]
    assert on_cards(paper(micro_batch=8), large, 8, "L4", 1).fits
    assert on_cards(paper(), large, 8, "L4", 1).limit == "activations"
    # A hundred times VoxCeleb2: 60 GB of rows, and some 2 GB more.
    rows = [on_cards(paper(micro_batch=1), PAPER, 14_556_900, card, 8) for card in ("L4", "A100")]
    assert [each.limit for each in rows] == ["identity rows", ""]
    assert on_cards(paper(), replace(PAPER, loss_network_bytes=10**11), 8, "H100", 8).limit == "weights"


@pytest.mark.long  # operations without data run in Python
def test_a_counted_step_has_the_networks_parameters_and_gradients(tiny_train: MakeTrain) -> None:
    config = tiny_train(warp_prior=True)
    config = replace(config, model=replace(config.model, image_size=64), engine=ExecutionConfig(micro_batch=3))
    counts = count_step(config)
    networks = {"embedder": Embedder, "generator": Generator, "discriminator": Discriminator}
    for name, network in networks.items():
        assert counts.parameters[name] == sum(each.numel() for each in network(config.model).parameters())
    e, g, d = counts.parameters.values()
    assert counts.gradient_bytes == 4 * (e + g + 2 * d)
    assert counts.row_bytes == 3 * (8 + 4 * config.model.embedding_size)
    # E keeps its input: K shots of six channels, in float32.
    assert counts.activation_bytes > 4 * config.num_shots * 6 * 64 * 64
    assert counts.flops > 0


def test_an_episode_is_timed_or_computed(tiny_train: MakeTrain, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_train(model=replace(tiny_train().model, image_size=64))
    seconds, how = episode_seconds(config, 10**9, torch.device("cpu"))
    assert seconds > 0
    assert how.startswith("measured")
    monkeypatch.setattr(this_machine, "measure_flops", lambda device, precision: 1e11 / torch.get_num_threads())
    seconds, how = episode_seconds(config, 87 * 10**10, torch.device("cpu"))
    assert seconds == pytest.approx(10)  # 87 % of 100 GFLOP/s
    assert how == "computed: 87% of the matrix rate measured here, 100 GFLOP/s"


def test_the_command_says_what_a_run_needs_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.meta_training.plan.report.count_step", lambda config: PAPER)
    monkeypatch.setattr("training.meta_training.plan.report.episode_seconds", lambda *_: (10.0, "measured"))
    command = ["meta-train", "paper", "-o", "run", "--plan", "--workers", "4"]
    assert sfumato.main([*command, "--num-steps", "3000", "--json"]) == 0
    said = capsys.readouterr()
    plan = json.loads(said.out)["plan"]
    assert plan["hours"] == 400.0  # 3,000 steps of 48 episodes of 10 s
    assert plan["num_checkpoints"] == 3
    assert plan["num_epochs"] == pytest.approx(3000 * 48 / 145_569)
    assert plan["exchanged"] == 368_975_144 + 12 * 6_168
    assert plan["sizes"]["checkpoint"] == pytest.approx(1.68e9, rel=1e-3)
    assert {each["num_cards"] for each in plan["on_cards"]} == {1, 2, 4, 8, 16, 32}
    assert "14,907,265 + 38,081,733 + 19,627,394" in said.err
    assert "400.0 h" in said.err
    assert not list(tmp_path.iterdir())
    # People drawn while training are so many rows; a number of workers that cannot be is refused as in a run.
    assert sfumato.main([*command, "--synthetic", "--synthetic-identities", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["num_rows"] == 50
    assert sfumato.main([*command[:-1], "49"]) == 1
    assert "not 49, 49, 48" in capsys.readouterr().err


def test_a_plan_of_data_that_is_not_there_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["--data", f"{tmp_path}/none", "-o", f"{tmp_path}/run"]
    assert sfumato.main(["meta-train", "demo", *missing, "--plan"]) == 2
    assert capsys.readouterr().err == f"sfumato meta-train: error: {tmp_path}/none does not exist\n"
