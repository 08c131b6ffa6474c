"""Storage on an object store: an emulator of Google Cloud Storage, through gcsfs."""

import hashlib
from pathlib import Path

import pytest

from pipelines import storage

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_what_is_written_is_read_listed_and_removed(gcs: str) -> None:
    url = storage.join(gcs, "a", "b.bin")
    assert not storage.exists(url)
    storage.write_bytes(url, b"0123456789")
    assert storage.exists(url)
    assert storage.is_folder(storage.join(gcs, "a"))
    assert storage.size(url) == 10
    assert storage.read_bytes(url) == b"0123456789"
    with storage.open(url) as file:
        assert file.read() == b"0123456789"
    assert storage.list(gcs) == [url]
    storage.remove(url)
    assert not storage.exists(url)
    storage.remove(url)


def test_a_failed_write_leaves_the_old_object(gcs: str) -> None:
    url = storage.join(gcs, "file")
    storage.write_bytes(url, b"old")
    with pytest.raises(RuntimeError), storage.atomic_write(url) as sink:  # noqa: PT012
        sink.write(b"new and half")
        raise RuntimeError
    assert storage.read_bytes(url) == b"old"
    assert storage.list(gcs) == [url]
    storage.write_bytes(url, b"new")
    assert storage.read_bytes(url) == b"new"


def test_ranges_and_downloads(gcs: str, tmp_path: Path) -> None:
    first, second = storage.join(gcs, "1"), storage.join(gcs, "2")
    storage.write_bytes(first, b"abcdef")
    storage.write_bytes(second, b"ghijkl")
    assert storage.ranges([second, first, second], [4, 0, 0], [2, 3, 1]) == [b"kl", b"abc", b"g"]
    assert storage.download(first, tmp_path / "copy", 6) == hashlib.sha256(b"abcdef").hexdigest()
    with pytest.raises(FileNotFoundError, match=f"{gcs}/3"):
        storage.ranges([first, storage.join(gcs, "3")], [0, 0], [1, 1])
    with pytest.raises(OSError, match=f"{gcs}/2"):
        storage.ranges([first, second], [0, 3], [1, 9])


@pytest.mark.parametrize("num_folders", [3, 12])
def test_a_walk_knows_sizes_and_checksums(gcs: str, num_folders: int) -> None:
    paths = ["a.txt", "a/x", *(f"id{i:02}/v/{k}.mp4" for i in range(num_folders) for k in (1, 2))]
    for path in paths:
        storage.write_bytes(storage.join(gcs, path), path.encode())
    found = [*storage.walk(gcs)]
    assert [file.url for file in found] == sorted(storage.join(gcs, path) for path in paths)
    for file in found:
        path = file.url.removeprefix(f"{gcs}/").encode()
        assert (file.num_bytes, file.checksum) == (len(path), f"md5:{hashlib.md5(path).hexdigest()}")
