import hashlib
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.storage import range_reads


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


def test_a_missing_file_among_ranges_is_the_one_that_is_named(root: str) -> None:
    there, missing = storage.join(root, "there"), storage.join(root, "missing")
    storage.write_bytes(there, b"abc")
    with pytest.raises(FileNotFoundError, match="missing"):
        storage.ranges([there, missing], [0, 0], [1, 1])


def test_a_download_is_the_file_and_its_hash(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_reads, "_BLOCK_BYTES", 4)
    url, target = storage.join(root, "file"), tmp_path / "copy"
    storage.write_bytes(url, b"0123456789")
    assert storage.download(url, target, 10) == hashlib.sha256(b"0123456789").hexdigest()
    assert target.read_bytes() == b"0123456789"
    with pytest.raises(OSError, match="file ends early"):
        storage.download(url, target, 11)
