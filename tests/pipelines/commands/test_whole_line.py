"""A data set's life, through the real command: made, checked, looked at, grown, and one person taken out for good."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import assets
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import ShardDataset

_SMALL = (
    "--size=64",
    "--frames-per-clip=9",
    "--max-sample-fps=4",
    "--val-fraction=0",
    "--test-fraction=0",
    "--no-audio",
)


def sfumato(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "sfumato", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """VoxCeleb's tree of two people, a copy of one's video under the other's name, and a text named .mp4."""
    films = {"id00012/a/00001.mp4": "clip_carphone", "id00012/b/00001.mp4": "clip_single_face"}
    films |= {"id00013/a/00001.mp4": "clip_langer", "id00013/copy/00001.mp4": "clip_carphone"}
    for name, asset in films.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        shutil.copy(assets.fetch(asset), tmp_path / "in" / name)
    (tmp_path / "in" / "id00014" / "c").mkdir(parents=True)
    (tmp_path / "in" / "id00014" / "c" / "00001.mp4").write_text("hello")
    return tmp_path / "in"


@pytest.mark.slow
def test_a_data_set_is_made_checked_previewed_and_a_person_removed(corpus: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "set")
    made = sfumato("preprocess", str(corpus), root, *_SMALL)
    assert "3 done + 2 rejected + 0 failed = 5 inputs" in made["notes"]
    assert sfumato("validate", root)["ok"]
    page = tmp_path / "sheet.html"
    sfumato("inspect", root, "-o", str(page))
    assert "id00012" in page.read_text()
    data = ShardDataset(root)
    assert {video.identity for video in data.videos("train")} == {"id00012", "id00013"}

    sfumato("forget", root, "--identity", "id00012", "--yes")
    assert sfumato("validate", root)["ok"]
    assert {video.identity for video in ShardDataset(root).videos("train")} == {"id00013"}
    assert read_manifest(root).codes == {"unreadable": 1}
    # The videos are still there, and so is the copy: neither comes back.
    again = sfumato("preprocess", str(corpus), root, *_SMALL)
    assert any("people who were taken out" in note for note in again["notes"])
    assert {video.identity for video in ShardDataset(root).videos("train")} == {"id00013"}
    assert sfumato("validate", root)["ok"]
    name = b"id00012"
    held = [path for path in Path(root).rglob("*") if path.is_file() and name in path.read_bytes()]
    assert held == []
    assert hashlib.sha256(name).hexdigest() in (Path(root) / "forgotten.jsonl").read_text()
