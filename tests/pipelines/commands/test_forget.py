import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.forget import Options, run
from pipelines.curation.validate_dataset import validate
from pipelines.planning.plan_file import PlanFile

Make = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make) -> Path:
    shards = [
        small_shard((make_row("ann", "v1", "a", 9), make_row("anna", "v1", "a", 10))),
        small_shard((), (make_reject("ann", "v2", "a", "no_face"),)),
        small_shard((make_row("[cat]", "v1", "a", 10),)),
    ]
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"


def command(root: Path | str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "sfumato", "forget", str(root), *arguments]


def everyone(root: Path) -> set[str]:
    return {row["identity"] for _, rows in PlanFile(str(root)).shards() for row in rows}


def test_an_identity_is_taken_out_and_what_stays_untouched_is_told(root: Path) -> None:
    outcome = run(Options(str(root), "ann", yes=True))
    assert outcome.ok
    assert dict(outcome.counts) == {"clips": 2, "frames": 9, "shards": 2}
    assert outcome.notes[0].startswith("2 clips and 9 frames in 2 shards are gone")
    assert outcome.notes[-1].startswith("not touched: models trained on the data")
    assert everyone(root) == {"anna", "[cat]"}
    again = run(Options(str(root), "ann"))
    assert again.ok
    assert dict(again.counts) == {"clips": 0, "frames": 0, "shards": 0}
    assert again.notes[0].startswith("this identity was taken out before, on 20")


def test_an_unknown_name_shows_close_ones_and_changes_nothing(root: Path) -> None:
    with pytest.raises(ValueError, match=r"no identity 'annn'; did you mean ann, anna\?"):
        run(Options(str(root), "annn", yes=True))
    with pytest.raises(ValueError, match=r"no identity 'zoe'$"):
        run(Options(str(root), "zoe", yes=True))
    assert not (root / "forgotten.jsonl").exists()


@pytest.mark.slow
def test_the_command_asks_and_refuses_where_nobody_can_answer(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(root, "--identity", "ann"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sfumato forget: error: 2 clips and 9 frames in 2 shards of 'ann' go for good: "
        "nobody is here to confirm it; say --yes\n"
    )
    done = subprocess.run(command(root, "--identity", "an"), capture_output=True, text=True, check=False)
    assert (done.returncode, "did you mean ann" in done.stderr) == (1, True)
    done = subprocess.run(command(tmp_path / "no", "--identity", "x"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"sfumato forget: error: {tmp_path}/no does not exist\n")
    assert everyone(root) == {"ann", "anna", "[cat]"}
    done = subprocess.run(
        command(root, "--identity", "ann", "--yes", "--json"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["counts"]) == (0, {"clips": 2, "frames": 9, "shards": 2})
    assert validate(str(root)).findings == ()


@pytest.mark.slow
def test_on_a_terminal_the_command_asks(root: Path) -> None:
    for answer, code, expected in (("n", 1, {"ann", "anna", "[cat]"}), ("y", 0, {"ann", "anna"})):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            command(root, "--identity", "[cat]"),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, f"{answer}\n".encode())
        _, printed = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert "1 clip and 10 frames in 1 shard of '[cat]' go for good. Go on? [y/N]" in printed
        assert process.returncode == code
        assert everyone(root) == expected
    assert "nothing was changed" not in printed
