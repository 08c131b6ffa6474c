import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.validate import Options, run

Make = Callable[..., Any]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make) -> Path:
    rejects = (make_reject("bob", "v2", "a", "no_face"),)
    shards = [small_shard((make_row("ann", "v1", "a", 9),), rejects), small_shard((make_row("cat", "v1", "a", 10),))]
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"


def test_a_sound_data_set_is_ok(root: Path) -> None:
    outcome = run(Options(str(root), workers=2))
    assert outcome.ok
    assert dict(outcome.counts) == {"shards": 2, "clips": 2, "frames": 19, "findings": 0}
    assert outcome.notes == ()


def test_at_most_twenty_findings_are_shown(root: Path) -> None:
    for number in range(23):
        (root / f"stray-{number:02d}").write_text("")
    outcome = run(Options(str(root)))
    assert not outcome.ok
    assert outcome.counts["findings"] == 23
    assert outcome.notes[0] == "stray-00: no shard owns this file"
    assert outcome.notes[19:] == (
        "stray-19: no shard owns this file",
        "and 3 more",
        f"{root} is not sound: 23 findings in 23 files",
    )


def test_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Options("set", workers=0)


@pytest.mark.slow
def test_the_command_exits_by_what_it_finds(root: Path, tmp_path: Path, run_sfumato: Run) -> None:
    done = run_sfumato("validate", str(root), "--json")
    assert (done.returncode, json.loads(done.stdout)["counts"]["findings"]) == (0, 0)
    (root / "clips" / "split=train" / "part-00001.parquet").unlink()
    done = run_sfumato("validate", str(root), "--quick")
    assert done.returncode == 1
    assert "note: clips/split=train/part-00001.parquet: is missing\n" in done.stdout
    assert done.stderr == f"sfumato validate: error: {root} is not sound: 1 finding in 1 file\n"
    done = run_sfumato("validate", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stderr) == (2, f"sfumato validate: error: {tmp_path}/nowhere does not exist\n")
    done = run_sfumato("validate", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is no data set" in done.stderr
