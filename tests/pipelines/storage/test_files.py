import hashlib
import os
import uuid
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.storage import files


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "root") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_what_is_written_is_read_listed_and_removed(root: str) -> None:
    url = storage.join(root, "a", "b.bin")
    storage.write_bytes(url, b"0123456789")
    assert storage.exists(url)
    assert storage.size(url) == 10
    assert storage.read_bytes(url) == b"0123456789"
    with storage.open(url) as file:
        assert file.read() == b"0123456789"
    assert storage.list(root) == [url]
    storage.remove(url)
    assert not storage.exists(url)
    storage.remove(url)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(root: str) -> None:
    url = storage.join(root, "file")
    storage.write_bytes(url, b"old")
    with pytest.raises(RuntimeError), storage.atomic_write(url) as sink:  # noqa: PT012
        sink.write(b"new and half")
        raise RuntimeError
    assert storage.read_bytes(url) == b"old"
    assert storage.list(root) == [url]


def test_ranges_come_in_the_order_asked_for(root: str) -> None:
    first, second = storage.join(root, "1"), storage.join(root, "2")
    storage.write_bytes(first, b"abcdef")
    storage.write_bytes(second, b"ghijkl")
    assert storage.ranges([second, first, second], [4, 0, 0], [2, 3, 1]) == [b"kl", b"abc", b"g"]
    assert storage.ranges([], [], []) == []


def test_a_range_past_the_end_is_an_error_that_names_the_file(root: str) -> None:
    url = storage.join(root, "short")
    storage.write_bytes(url, b"abc")
    with pytest.raises(OSError, match="short"):
        storage.ranges([url], [1], [5])


def test_listing_keeps_the_spelling_of_the_scheme(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert storage.list(str(tmp_path)) == [str(tmp_path / "x")]
    assert storage.list(f"file://{tmp_path}") == [f"file://{tmp_path}/x"]
    assert storage.list(str(tmp_path / "missing")) == []


def test_open_refuses_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="atomic_write"):
        storage.open(str(tmp_path / "x"), "wb")


def test_local_copy_downloads_what_is_not_local(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/clip.mp4"
    storage.write_bytes(url, b"film")
    with storage.local_copy(url) as path:
        assert path.suffix == ".mp4"
        assert path.read_bytes() == b"film"
    assert not path.exists()
    mine = tmp_path / "mine"
    mine.write_bytes(b"x")
    with storage.local_copy(str(mine)) as path:
        assert path == mine
    assert mine.exists()


def test_join_keeps_one_slash() -> None:
    assert storage.join("gs://bucket/a/", "b", "c") == "gs://bucket/a/b/c"
    assert storage.join("/", "b") == "/b"
    assert storage.join("here") == "here"


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


def test_a_missing_file_among_ranges_is_the_one_that_is_named(root: str) -> None:
    there, missing = storage.join(root, "there"), storage.join(root, "missing")
    storage.write_bytes(there, b"abc")
    with pytest.raises(FileNotFoundError, match="missing"):
        storage.ranges([there, missing], [0, 0], [1, 1])


def test_a_download_is_the_file_and_its_hash(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK_BYTES", 4)
    url, target = storage.join(root, "file"), tmp_path / "copy"
    storage.write_bytes(url, b"0123456789")
    assert storage.download(url, target, 10) == hashlib.sha256(b"0123456789").hexdigest()
    assert target.read_bytes() == b"0123456789"
    with pytest.raises(OSError, match="file ends early"):
        storage.download(url, target, 11)
