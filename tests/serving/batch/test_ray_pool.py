"""`sfumato animate --workers 2` with a fake avatar maker, in processes of its own: workers and commands are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

POISON = "p07--talk"  # kills its worker whenever it is rendered
NAMES = [f"p{number:02d}" for number in range(20)]
DRIVERS = ("smile", "talk", "turn")
_TIMEOUT_S = 240


class FakeMaker:
    """Takes a twentieth of a second for an avatar and for a video, which is a copy of the driver."""

    def __init__(self, options: Any, workspace: Any) -> None:
        self.avatars = Path(workspace.out) / "avatars"
        self.log = Path(workspace.out).parent / "log.jsonl"

    def check(self) -> None:
        pass

    def version(self, source: Any) -> str:
        return "1"

    def avatar(self, source: Any, on_step: Any) -> Any:
        manifest = self.avatars / source.input.name / "manifest.json"
        if not manifest.exists():
            self.tell(made=source.input.name)
            time.sleep(0.05)
            manifest.parent.mkdir(parents=True, exist_ok=True)
            manifest.write_text("{}")
        return self.loaded()

    def loaded(self) -> Any:
        """An avatar without networks and pictures."""
        from serving.batch.avatar_maker import LoadedAvatar
        from training.avatars.avatar import Avatar
        from training.checkpoints.model_lineage import ModelLineage

        avatar = object.__new__(Avatar)
        facts = {"portraits": (), "lineage": ModelLineage(), "consent_sha256": None}
        avatar.__dict__.update(facts, base_version="1")
        return LoadedAvatar(avatar)

    def render(self, avatar: Any, files: Any, options: Any, on_frame: Any) -> Any:
        from training.animation.render import RenderReport

        self.tell(rendered=files.out.stem)
        if files.out.stem == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        partial = files.out.parent / f".partial-{files.out.name}"
        shutil.copy(files.driver, partial)
        time.sleep(0.05)
        partial.replace(files.out)
        return RenderReport(3, Fraction(25), 48, 32, False, 0, 0.05, 1.0, {"a.jpg": 1.0}, 3)

    def tell(self, **what: str) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps({"pid": os.getpid(), **what}) + "\n")


def main() -> None:
    """The real command, with the fake maker."""
    import serving.commands.animate
    import sfumato

    serving.commands.animate.ModelAvatarMaker = FakeMaker  # type: ignore[assignment,misc]
    sfumato.command()


class Runs:
    """Starts commands on a folder with 20 portraits and 3 drivers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"

    @contextmanager
    def command(self, *flags: str) -> Iterator[subprocess.Popen[str]]:
        words = ["-s", f"{self.folder}/portraits", "-d", f"{self.folder}/drivers", "-o", str(self.out), "--json"]
        command = [sys.executable, __file__, "animate", *words, "--no-side-by-side", "--no-mosaic", *flags]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield running
        finally:
            running.kill()
            running.communicate()

    def finished(self) -> set[str]:
        return {path.stem for path in self.out.glob("*--*.json")}

    def wait_for(self, number: int, running: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while len(self.finished()) < number:
            assert time.monotonic() < deadline
            assert running.poll() is None, running.communicate()
            time.sleep(0.02)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Bytes and time of every file of finished videos."""
        files = [path for name in self.finished() for path in (self.out / f"{name}.mp4", self.out / f"{name}.json")]
        files += [self.out / "posters" / f"{name}.webp" for name in self.finished()]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    def partial_files(self) -> list[str]:
        return [path.name for path in self.out.glob(".partial-*")]


@pytest.fixture
def runs(tmp_path: Path, make_video: Callable[..., Path]) -> Runs:
    (tmp_path / "portraits").mkdir()
    for name in NAMES:
        (tmp_path / "portraits" / f"{name}.jpg").write_text(name)
    for number, name in enumerate(DRIVERS):
        make_video(f"drivers/{name}.mp4", [10 + number, 20, 30])
    return Runs(tmp_path)


@pytest.mark.long
def test_runs_and_workers_are_killed_and_the_last_run_completes_them(runs: Runs, ray_session: None) -> None:
    import ray

    on_cluster = ("--workers", "2", "--ray-address", ray.get_runtime_context().gcs_address)
    with runs.command("--workers", "2") as running:
        runs.wait_for(5, running)
        os.kill(runs.log()[-1]["pid"], signal.SIGKILL)
        runs.wait_for(20, running)
        running.kill()
        running.wait()
    kept = runs.files()
    assert len(kept) >= 60
    with runs.command(*on_cluster) as running:
        runs.wait_for(len(kept) // 3 + 8, running)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=_TIMEOUT_S)
        assert running.returncode == 130, errors
        assert "interrupted: run the same command again to resume" in errors
    assert runs.partial_files() == []
    before, interrupted = len(runs.log()), runs.files()
    assert kept.items() <= interrupted.items()
    with runs.command(*on_cluster) as running:
        answer, errors = running.communicate(timeout=_TIMEOUT_S)
        assert running.returncode == 0, errors
    assert interrupted.items() <= runs.files().items()
    assert runs.finished() == {f"{name}--{driver}" for name in NAMES for driver in DRIVERS} - {POISON}
    assert runs.partial_files() == []
    result = json.loads(answer.splitlines()[-1])
    num_skipped = len(interrupted) // 3
    assert result["counts"] == {"done": 59 - num_skipped, "skipped": num_skipped, "failed": 1}
    assert result["notes"][1:] == [f"{POISON}: killed its worker twice"]  # the first: signed by whom
    last = runs.log()[before:]
    assert Counter(line.get("rendered") for line in last)[POISON] == 2
    assert len({line["pid"] for line in last}) >= 3  # two workers, and one in place of the first dead one
    made = Counter(line["made"] for line in last if "made" in line)
    assert set(made.values()) <= {1}
    check_report(runs, num_skipped)
    page = (runs.out / "index.html").read_text()
    assert page.count('<img src="posters/') == 59
    assert "killed its worker twice" in page


def check_report(runs: Runs, num_skipped: int) -> None:
    """The report of the last run has a row for every video; the earlier ones have what they came to write."""
    rows = pyarrow.dataset.dataset(runs.out / "report").to_table().to_pylist()
    last = [row for row in rows if row["run"] == max(row["run"] for row in rows)]
    assert Counter(row["status"] for row in last) == {"done": 59 - num_skipped, "skipped": num_skipped, "failed": 1}
    assert len({row["item"] for row in last}) == 60
    (failed,) = (row for row in last if row["status"] == "failed")
    assert (failed["item"], failed["video"]) == (POISON, None)
    assert {row["worker"].partition("@")[0] for row in last if row["status"] == "done"} == {"0", "1"}
    assert all(row["seconds"] > 0 and row["frames"] == 3 for row in last if row["status"] == "done")


if __name__ == "__main__":
    main()
