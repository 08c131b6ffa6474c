import uuid
from pathlib import Path

import pytest

from pipelines import storage


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
