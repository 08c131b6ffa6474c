import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import assets
from pipelines.commands import preprocess, retry
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import ShardDataset
from pipelines.planning.plan_file import PlanFile


@pytest.fixture
def halved(tmp_path: Path) -> preprocess.Options:
    """A data set of two clips of which one could not be read: its file comes late."""
    video_path = assets.fetch("clip_carphone")
    (tmp_path / "in").mkdir()
    shutil.copy(video_path, tmp_path / "in" / "there.mp4")
    size = video_path.stat().st_size + 1
    rows = [{"path": "there.mp4"}, {"path": "late.mp4", "num_bytes": size, "identity": "ann"}, {"path": "text.mp4"}]
    (tmp_path / "in" / "text.mp4").write_text("hello")
    (tmp_path / "in" / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = preprocess.Options(
        str(tmp_path / "in" / "m.jsonl"),
        str(tmp_path / "out"),
        size=64,
        frames_per_clip=9,
        max_sample_fps=4.0,
        val_fraction=0.0,
        test_fraction=0.0,
        workers=1,
    )
    outcome = preprocess.run(options)
    assert "1 done + 1 rejected + 1 failed = 3 inputs" in outcome.notes
    assert "late.mp4 failed (storage): it is not there any more" in outcome.notes
    return options


def state(root: str) -> dict[str, Any]:
    """Bytes and times of the shards."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in Path(root).rglob("part-*")
        if path.suffix != ".json"
    }


@pytest.mark.slow
def test_what_failed_is_tried_again_in_a_shard_of_its_own(halved: preprocess.Options) -> None:
    before = state(halved.out)
    (Path(halved.src).parent / "late.mp4").write_bytes(assets.fetch("clip_carphone").read_bytes() + b"\0")
    command = [sys.executable, "-m", "sfumato", "retry", halved.out, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert "1 of 1 failed clips did not fail again" in said["notes"]
    assert "2 done + 1 rejected + 0 failed = 3 inputs" in said["notes"]
    manifest = read_manifest(halved.out)
    assert manifest.codes == {"unreadable": 1}
    assert manifest.counts["inputs"] == 3
    assert {path: state(halved.out)[path] for path in before} == before
    assert {video.identity for video in ShardDataset(halved.out).videos("train")} == {"ann", "there"}
    # Nothing is left to retry, and preprocess finds everything done.
    assert "nothing to retry" in retry.run(retry.Options(halved.out)).notes[0]
    again = preprocess.run(halved)
    assert again.counts == said["counts"]
    assert read_manifest(halved.out) == manifest


@pytest.mark.slow
def test_what_fails_again_is_tried_three_times(halved: preprocess.Options) -> None:
    for attempt in (2, 3):
        outcome = retry.run(retry.Options(halved.out, workers=1))
        assert outcome.notes[0] == "0 of 1 failed clips did not fail again"
        assert "1 done + 1 rejected + 1 failed = 3 inputs" in outcome.notes
        clips = [clip for clips in PlanFile(halved.out).all_clips() for clip in clips]
        assert sorted(clip.attempt for clip in clips) == [1, 1, 1, *range(2, attempt + 1)]
        assert read_manifest(halved.out).codes == {"storage": 1, "unreadable": 1}
    outcome = retry.run(retry.Options(halved.out, workers=1))
    assert "nothing to retry" in outcome.notes[0]


@pytest.mark.slow
def test_clips_that_have_moved_are_found_where_one_says(halved: preprocess.Options, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "late.mp4").write_bytes(assets.fetch("clip_carphone").read_bytes() + b"\0")
    outcome = retry.run(retry.Options(halved.out, src=str(tmp_path / "moved"), workers=1))
    assert outcome.notes[0] == "1 of 1 failed clips did not fail again"


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        retry.run(retry.Options(str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="is no data set"):
        retry.run(retry.Options(str(tmp_path)))
