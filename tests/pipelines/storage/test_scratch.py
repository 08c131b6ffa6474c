"""Temporary folders of processes that are killed go; those of living ones stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.storage import scratch
from pipelines.storage.scratch import ScratchFolder

_HOLDER = """
import sys, time
from pathlib import Path

import pytest
from pipelines.storage.scratch import ScratchFolder
folder = ScratchFolder(Path(sys.argv[1]))
(Path(folder.name) / "film.mp4").write_bytes(b"x")
print(folder.name, flush=True)
time.sleep(100)
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a scratch folder."""
    running = subprocess.Popen([sys.executable, "-c", _HOLDER, str(parent)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    return running, Path(running.stdout.readline().strip())


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    (tmp_path / "sfumato-scratch-file").write_text("not a folder")
    (tmp_path / "another").mkdir()
    (tmp_path / "sfumato-scratch-link").symlink_to(tmp_path / "another")
    killed, lost = holder(tmp_path)
    killed.kill()
    killed.communicate()
    assert (lost / "film.mp4").exists()
    living, kept = holder(tmp_path)
    assert not lost.exists()
    scratch._remove_abandoned_once.cache_clear()
    with ScratchFolder(tmp_path) as mine:
        assert (kept / "film.mp4").exists()
        assert list(Path(mine).iterdir()) == []
    assert not Path(mine).exists()
    living.kill()
    living.communicate()
    assert (tmp_path / "another").exists()
    assert (tmp_path / "sfumato-scratch-file").exists()


def test_a_folder_that_another_process_takes_for_abandoned_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, names = scratch._lock, []

    def robbed_once(folder: str) -> int:
        names.append(folder)
        if len(names) == 1:
            Path(folder).rmdir()
        return lock(folder)

    monkeypatch.setattr(scratch, "_lock", robbed_once)
    with ScratchFolder(tmp_path) as mine:
        assert [mine] == names[1:]
        assert Path(mine).is_dir()
    assert list(tmp_path.iterdir()) == []
