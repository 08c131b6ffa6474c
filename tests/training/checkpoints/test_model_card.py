from collections.abc import Callable
from dataclasses import replace

import pytest

from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import TrainingProvenance
from training.checkpoints.model_card import Training, model_card, summary
from training.config import TrainConfig

ORIGIN = TrainingProvenance(1200, 57600, "gs://bucket/set", "d" * 64)
TRAINING = Training(
    preset="small",
    command="sfumato meta-train small --data gs://bucket/set -o run",
    code_version="9.8.7",
    starts=("2026-11-24 10:00:00", "2026-11-24 11:30:00"),
    finished="2026-11-24 12:00:00",
    metrics={"content": 3.14159, "images_per_second": 12.5, "system/cpu_utilization_percentage": 99.0},
    hardware={"device": "Card X", "workers": "4", "machine": "cpu Y, cores 8"},
    num_parameters={"embedder": 1_234_567},
)
HASHES = {"config.json": "a" * 64, "generator.safetensors": "b" * 64}


@pytest.fixture
def manifest(make_dataset: Callable[..., ShardDataset]) -> DatasetManifest:
    return make_dataset("ann/v1", "bob/v1").manifest


def test_the_card_says_what_it_was_told(tiny_train: Callable[..., TrainConfig], manifest: DatasetManifest) -> None:
    config = tiny_train(warp_prior=True, num_steps=1200)
    card = model_card(config, ORIGIN, manifest, TRAINING, HASHES)
    for words in (
        "preset `small`",
        "`sfumato meta-train` 9.8.7",
        "a warp of the portrait, and a network",
        "32 x 32 pixels",
        "embedder (E) 1.23 M",
        "1,200 steps of 4 episodes, 57,600 images seen, K = 2 shots",
        f"drawn, licence CC0, 2 clips, digest `{manifest.digest}`",
        "- Started: 2026-11-24 10:00:00",
        "- Started again: 1 times, last 2026-11-24 11:30:00",
        "- Device: Card X",
        "- Workers: 4",
        "| content | 3.142 |",
        "sfumato meta-train small --data gs://bucket/set -o run",
        "| `model.warp_prior` | True |",
        "| `num_steps` | 1200 |",
        f"| generator.safetensors | `{'b' * 64}` |",
        "agreed",
        "generated",
    ):
        assert words in card, words
    assert "cpu_utilization" not in card
    assert model_card(config, ORIGIN, manifest, TRAINING, HASHES) == card


def test_what_is_not_known_is_not_said(tiny_train: Callable[..., TrainConfig], manifest: DatasetManifest) -> None:
    bare = replace(TRAINING, metrics={}, hardware={}, starts=TRAINING.starts[:1], num_parameters={})
    card = model_card(tiny_train(), ORIGIN, manifest, bare, HASHES)
    for words in ("Device", "Started again", "Last values", "a warp of the portrait"):
        assert words not in card
    assert "the network paints every pixel" in card


def test_a_users_text_is_no_markup(tiny_train: Callable[..., TrainConfig], manifest: DatasetManifest) -> None:
    manifest = replace(manifest, source="my <script>\n# films `x`", licence="a | b")
    card = model_card(tiny_train(), ORIGIN, manifest, TRAINING, HASHES)
    assert "my &lt;script> # films 'x'" in card
    assert "\n# films" not in card


def test_the_summary_has_room_in_the_registry(
    tiny_train: Callable[..., TrainConfig], manifest: DatasetManifest
) -> None:
    """MLflow's table holds 5000 characters."""
    text = summary(tiny_train(), ORIGIN, manifest, TRAINING)
    assert len(text) < 2000
    assert model_card(tiny_train(), ORIGIN, manifest, TRAINING, HASHES).startswith(text)
