"""A run that is watched, refused a second time, killed and finished, through the real commands."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import assets
from pipelines.commands.preprocess import Options, run
from pipelines.preprocess import run as run_module
from pipelines.preprocess.run_record import LEASE, RECORD
from pipelines.preprocess.status import Status
from pipelines.storage import lease

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Two small clips, and a text that gives no row."""
    folder = tmp_path_factory.mktemp("corpus")
    video_path = assets.fetch("clip_carphone").read_bytes()
    for name in ("a", "b"):
        (folder / f"{name}.mp4").write_bytes(video_path + b"\0\0\0\x0cfree" + name.encode() * 4)
    (folder / "text.mp4").write_text("hello")
    more: dict[str, Any] = {"frames_per_clip": 9, "max_sample_fps": 4.0, "audio": False, "workers": 1}
    return Options(str(folder), str(folder / "unused"), size=64, licence="CC0", **more)


@pytest.fixture
def killed(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose command was killed after the last shard: without manifest, with the record of the run."""

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    begun = dataclasses.replace(options, out=str(tmp_path / "set"))
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_manifest", die)
        with pytest.raises(SystemExit):
            run(begun)
    return tmp_path / "set"


@pytest.mark.slow
def test_7_a_run_whose_command_was_killed_is_finished_with_the_same_bytes(
    options: Options, killed: Path, run_sfumato: Command
) -> None:
    assert not (killed / "dataset.json").exists()
    shown = run_sfumato("status", str(killed), "--json")
    answer = json.loads(shown.stdout)
    counts = {"shards": 3, "shards_done": 3, "clips": 3, "clips_processed": 3, "done": 2, "rejected": 1, "failed": 0}
    assert answer["counts"] == counts
    assert "all shards are made: preprocess --finish writes the manifest" in answer["notes"]
    assert "without a row: 1 unreadable" in answer["notes"]
    assert any(note.startswith("text.mp4 rejected (unreadable): ") for note in answer["notes"])
    finished = run_sfumato("preprocess", f"elsewhere/{Path(options.src).name}", str(killed), "--finish")
    assert finished.returncode == 0, finished.stderr
    written = {name: (killed / name).read_bytes() for name in ("dataset.json", "README.md")}
    assert json.loads(written["dataset.json"])["licence"] == "CC0"
    assert not (killed / RECORD).exists()
    # What an undisturbed command writes.
    (killed / "dataset.json").unlink()
    run(dataclasses.replace(options, out=str(killed)))
    assert {name: (killed / name).read_bytes() for name in written} == written
    done = run_sfumato("status", str(killed))
    assert f"\ndata set: {killed}\n" in done.stdout
    assert "nobody" not in done.stdout


@pytest.mark.slow
def test_7_a_second_process_is_refused_by_name_and_takes_over_from_a_dead_one(
    tmp_path: Path, make_dataset: Any, small_shard: Any, make_row: Any, run_sfumato: Command
) -> None:
    out = tmp_path / "set"
    make_dataset(str(out), [small_shard([make_row("ann", "v1", "a")])])
    code = (
        "import sys, time\nfrom pipelines.preprocess.run_record import LEASE\nfrom pipelines.storage import lease\n"
        f"with lease.hold({str(out)!r}, LEASE):\n print('held', flush=True)\n time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        refused = run_sfumato("preprocess", str(tmp_path), str(out))
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert f"{out} is being written by process {other.pid} on {os.uname().nodename} since 2" in line
        assert f"at work: process {other.pid} on " in run_sfumato("status", str(out)).stdout
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    taken = run_sfumato("retry", str(out))
    assert (taken.returncode, taken.stderr) == (0, "")
    assert not (out / LEASE.file).exists()


@pytest.mark.parametrize("verb", ["retry", "forget"])
def test_7_a_data_set_that_is_being_written_is_not_changed_beside(
    verb: str, tmp_path: Path, make_dataset: Any, small_shard: Any, make_row: Any, run_sfumato: Command
) -> None:
    make_dataset(str(tmp_path / "set"), [small_shard([make_row("ann", "v1", "a")])])
    more = ("--identity", "ann", "--yes") if verb == "forget" else ()
    with lease.hold(str(tmp_path / "set"), LEASE):
        refused = run_sfumato(verb, str(tmp_path / "set"), *more)
    assert refused.returncode == 1
    assert "is being written by process" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--detach",), "detach leaves a job to a service, which --runner local has not: DataflowRunner has"),
        (("--finish",), "has no plan.parquet"),
    ],
)
def test_what_does_not_fit_is_said_on_one_line(
    flags: tuple[str, ...], message: str, tmp_path: Path, run_sfumato: Command
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    done = run_sfumato("preprocess", str(tmp_path), str(tmp_path / "out"), *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_what_was_never_begun_has_no_status(tmp_path: Path, run_sfumato: Command) -> None:
    for root, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "has no plan.parquet")):
        done = run_sfumato("status", str(root))
        assert done.returncode == 2
        assert message in done.stderr


def test_the_rate_is_that_of_this_run_alone() -> None:
    from pipelines.preprocess.run_record import RunRecord

    # 300 clips in half an hour, 100 were done before; 600 are left.
    record = RunRecord("vox2", "CC0", "DataflowRunner", began=time.time(), clips_before=100)
    status = Status(10, 4, 1000, 400, 390, 10, 0, {}, (), False, None, record, "")
    assert "600 clips/h, 1:00:00 left at this rate" in status.notes(record.began + 1800)
