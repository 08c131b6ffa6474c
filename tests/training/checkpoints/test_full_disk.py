"""Writing a checkpoint to a full disk; number 68 in the list of bad inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sfumato
from pipelines import storage
from training.checkpoints.bundle import MANIFEST, load_bundle

SAVE = """
import resource, sys
from training.checkpoints.bundle import read_with_manifest, write_with_manifest
source, target = sys.argv[1:]
files = {name: data for name, data in read_with_manifest(source).items() if name != "manifest.json"}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import sfumato
try:
    write_with_manifest(target, files)
except OSError as error:
    print(sfumato._explain("meta-train", error)[0])
"""


@pytest.mark.slow
def test_68_a_disk_without_room_leaves_the_checkpoint_before_whole(bundle: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the write fails in the middle, as on a full disk."""
    newer = tmp_path / "newer"
    command = [sys.executable, "-c", SAVE, str(bundle), str(newer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(sfumato.__file__).parent)
    assert done.returncode == 0, done.stderr
    name = done.stdout.rpartition("/")[2].partition(":")[0]
    assert done.stdout == f"{newer / name}: File too large\n"
    assert name.endswith((".safetensors", ".pt"))
    written = {path.name for path in newer.iterdir()}
    assert not any(each.startswith(".partial") for each in written)
    assert name not in written
    assert MANIFEST not in written
    load_bundle(str(bundle))


def test_68_no_space_left_names_the_file_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "weights"
    storage.write_bytes(str(target), b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: _raise(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device") as caught:
        storage.write_bytes(str(target), b"new")
    assert caught.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert target.read_bytes() == b"old"


def test_68_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen = tmp_path / "weights", list[bool]()
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(target.exists()))
    storage.write_bytes(str(target), b"new")
    assert seen == [False]
    assert target.read_bytes() == b"new"


def _raise(error: Exception) -> None:
    raise error
