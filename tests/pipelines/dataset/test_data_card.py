import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.dataset.data_card import EXPLANATIONS, data_card
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.shard_report import read_report
from pipelines.preprocess.quality import RejectReason

Make = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make) -> str:
    rejects = (make_reject("bob", "v2", "a", "no_face"), make_reject("bob", "v2", "b", "internal"))
    shards = [
        small_shard((make_row("ann", "v1", "a", 9), make_row("ann", "v1", "b", 16)), rejects),
        small_shard((make_row("cat", "v1", "a", 12),), split="val"),
    ]
    make_dataset(str(tmp_path), shards, licence="CC <b>\nBY")
    return str(tmp_path)


def card_of(root: str) -> str:
    manifest = read_manifest(root)
    reports = [read_report(f"{root}/{shard_paths(entry.split, entry.shard).report}") for entry in manifest.shards]
    return data_card(manifest, {"train": 2, "val": 1, "test": 0}, reports)


def test_the_card_counts_what_is_inside_and_what_was_refused(root: str) -> None:
    card = card_of(root)
    for line in (
        "5 input clips: 3 done, 1 rejected, 1 failed.",
        "| train | 2 | 2 | 25 | 0.002 |",  # two clips of four seconds
        "| val | 1 | 1 | 12 | 0.001 |",
        "| test | 0 | 0 | 0 | 0.000 |",
        "| no_face | 1 | no face in any of the frames looked at |",
        "| internal | 1 | our own error; `sfumato retry` tries again |",
        "K = 8 shots",
        "- Licence: CC &lt;b> BY",
        f"- `net`: sha256 `{'a' * 64}`",
        "sfumato forget . --identity ID",
    ):
        assert line in card


def test_the_card_says_where_faces_look(root: str) -> None:
    # yaw of 9, 16 and 12 frames: from -10 in steps of 2.5, so at the most -10 + 15 * 2.5 = 27.5, counted at 30
    card = card_of(root)
    (yaw,) = re.findall(r"\| yaw \(°\) \|(.*)\|", card)
    assert [int(value) for value in yaw.split("|")][::6] == [-10, 30]
    (frames,) = re.findall(r"\| frames per clip \|(.*)\|", card)
    assert [int(value) for value in frames.split("|")] == [9, 9, 9, 12, 16, 16, 16]


def test_without_reports_the_card_goes_without_poses(root: str) -> None:
    card = data_card(read_manifest(root), {"train": 2, "val": 1, "test": 0})
    assert "| train | 2 | 2 | 25 |\n" in card
    assert "Where the faces look" not in card


@pytest.mark.slow
def test_both_snippets_of_the_card_run(
    root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", card_of(root), re.DOTALL)
    assert len(snippets) == 2
    monkeypatch.chdir(root)
    exec(snippets[0], {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25
    assert re.fullmatch(r"ann/v1 a 5 \d+ \(68, 2\)", lines[0])
    exec(snippets[1], {})


def test_the_card_of_an_earlier_layout_has_its_paths(
    tmp_path: Path, make_row: Make, small_shard: Make, make_dataset: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(str(tmp_path), [small_shard((make_row("ann", "v1", "a", 9),))], layout="one folder")
    card = data_card(read_manifest(str(tmp_path)), {"train": 1})
    assert card.startswith("# Talking-head data set")
    (_, snippet) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(snippet.replace('"train/', f'"{tmp_path}/train/'), {})
    assert capsys.readouterr().out == "ann v1 a 9 136\n"


def test_the_hub_finds_the_clips_of_each_split(root: str) -> None:
    _, front, rest = card_of(root).split("---\n", 2)
    assert rest.startswith("\n# Talking-head data set")
    files = [{"split": split, "path": f"clips/split={split}/*.parquet"} for split in ("train", "val")]
    assert yaml.safe_load(front) == {"configs": [{"config_name": "clips", "data_files": files}]}


def test_every_reason_is_explained() -> None:
    assert {*map(str, RejectReason), "duplicate"} == set(EXPLANATIONS)


def test_an_empty_data_set_has_a_card(tmp_path: Path, small_shard: Make, make_dataset: Make) -> None:
    make_dataset(str(tmp_path), [small_shard()])
    card = data_card(read_manifest(str(tmp_path)), {"train": 0})
    assert "| none | 0 |  |" in card
    assert "episode" not in card
