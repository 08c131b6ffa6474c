import os
from pathlib import Path

import pytest

from pipelines import storage


@pytest.mark.parametrize("num_folders", [2, 30])
def test_a_walk_gives_every_file_once_in_the_order_of_their_paths(root: str, num_folders: int) -> None:
    paths = [
        "a.txt",
        "a/x",
        "a-b/y",
        "deep/er/z",
        *(f"id{i:02}/v{j}/{k}.mp4" for i in range(num_folders) for j in (1, 2) for k in (1, 2)),
    ]
    for path in paths:
        storage.write_bytes(storage.join(root, path), path.encode())
    found = list(storage.walk(root + "/"))
    assert [file.url for file in found] == sorted(storage.join(root, path) for path in paths)
    assert [file.num_bytes for file in found] == [len(file.url) - len(root) - 1 for file in found]
    assert list(storage.walk(storage.join(root, "missing"))) == []


def test_a_local_walk_follows_links_and_never_loops(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "far.mp4").write_bytes(b"12345")
    (root / "a").write_bytes(b"123")
    (root / "link").symlink_to(root / "a")
    (root / "sub" / "up").symlink_to(root)
    (root / "other").symlink_to(elsewhere)
    (root / "nothing").symlink_to(root / "gone")
    os.mkfifo(root / "pipe")
    found = [(file.url, file.num_bytes, file.checksum) for file in storage.walk(f"file://{root}")]
    sizes = {"a": 3, "link": 3, "nothing": 0, "other/far.mp4": 5, "pipe": 0}
    assert found == [(f"file://{root}/{name}", size, None) for name, size in sizes.items()]


def test_a_walk_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        storage.write_bytes(str(tmp_path / name / "x"), b"")
    scanned: list[str] = []
    scandir = os.scandir

    def watch(folder: str) -> object:
        scanned.append(Path(folder).name)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", watch)
    walk = storage.walk(str(tmp_path))
    next(walk)
    assert scanned[1:] == ["a"]
    next(walk)
    assert scanned[1:] == ["a", "b"]
