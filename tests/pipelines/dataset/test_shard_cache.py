import errno
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.shard_cache import ShardCache


def entry(data: bytes, sha256: str | None = None) -> ShardEntry:
    return ShardEntry("train", 0, 1, 1, len(data), sha256 or hashlib.sha256(data).hexdigest(), "", "")


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, ShardEntry]:
    """Three shards in a store."""
    found = {}
    for name in "abc":
        url, data = f"memory://{tmp_path.name}/{name}", name.encode() * 1000
        storage.write_bytes(url, data)
        found[url] = entry(data)
    return found


@pytest.fixture
def cache(tmp_path: Path, shards: dict[str, ShardEntry]) -> Iterator[ShardCache]:
    cache = ShardCache(tmp_path / "scratch", shards)
    yield cache
    cache.close()


def copies(folder: Path) -> int:
    return len([*folder.glob("*.parquet")]) + len([*folder.glob("*.partial")])


def test_what_is_wanted_is_copied_and_the_rest_let_go(cache: ShardCache, shards: dict[str, ShardEntry]) -> None:
    a, b, c = shards
    cache.request([a, b])
    assert Path(cache.path(a)).read_bytes() == b"a" * 1000
    assert Path(cache.path(b)).read_bytes() == b"b" * 1000
    assert cache.path(c) == c  # not wanted: read it where it lies
    cache.request([b, c])
    assert Path(cache.path(c)).read_bytes() == b"c" * 1000
    assert cache.path(a) == a
    assert copies(cache.folder) == 2
    cache.close()
    assert copies(cache.folder) == 0


def test_a_shard_wanted_again_is_not_fetched_again(
    cache: ShardCache, shards: dict[str, ShardEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    download = storage.download

    def count(url: str, target: Path, num_bytes: int) -> str:
        fetched.append(url)
        return download(url, target, num_bytes)

    monkeypatch.setattr(storage, "download", count)
    a, b, _ = shards
    cache.request([a])
    cache.path(a)
    cache.request([a, b])
    cache.path(b)
    other = ShardCache(cache.folder, shards)  # a second process of the machine
    other.request([a])
    assert other.path(a) == cache.path(a)
    assert fetched == [a, b]
    cache.close()
    assert Path(other.path(a)).exists()  # the other still reads it
    other.close()
    assert copies(cache.folder) == 0


def test_two_that_want_the_same_at_once_fetch_it_once(
    tmp_path: Path, shards: dict[str, ShardEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go, fetched = threading.Event(), threading.Event(), []
    download = storage.download

    def slow(url: str, target: Path, num_bytes: int) -> str:
        fetched.append(url)
        started.set()
        assert go.wait(10)
        return download(url, target, num_bytes)

    monkeypatch.setattr(storage, "download", slow)
    first, second = (ShardCache(tmp_path / "scratch", shards) for _ in range(2))
    (a, *_) = shards
    first.request([a])
    assert started.wait(10)
    second.request([a])
    go.set()
    assert first.path(a) == second.path(a)
    assert fetched == [a]
    first.close()
    second.close()


def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, shards: dict[str, ShardEntry]) -> None:
    (url, *_) = shards
    cache = ShardCache(tmp_path / "scratch", {url: entry(b"a" * 1000, "0" * 64)})
    cache.request([url])
    with pytest.raises(ValueError, match=rf"^{url} is damaged: its sha256 is [0-9a-f]{{64}}, the manifest says 000"):
        cache.path(url)
    assert copies(cache.folder) == 0
    cache.close()


def test_a_missing_or_short_shard_is_named(cache: ShardCache, shards: dict[str, ShardEntry]) -> None:
    a, b, _ = shards
    storage.remove(a)
    storage.write_bytes(b, b"b")
    cache.request([a, b])
    with pytest.raises(FileNotFoundError, match=a):
        cache.path(a)
    with pytest.raises(OSError, match=f"{b} ends early"):
        cache.path(b)


def test_what_a_killed_process_left_is_removed(tmp_path: Path, shards: dict[str, ShardEntry]) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / f"{'a' * 64}.parquet").write_bytes(b"old")
    (folder / f"{'b' * 64}.partial").write_bytes(b"half")
    ShardCache(folder, shards).close()
    assert copies(folder) == 0


def test_a_full_disk_is_named(
    cache: ShardCache, shards: dict[str, ShardEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, target: Path, num_bytes: int) -> str:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "download", full)
    (a, *_) = shards
    cache.request([a])
    with pytest.raises(OSError, match=f"no space for a copy of {a}: '{cache.folder}'"):
        cache.path(a)
    assert copies(cache.folder) == 0
