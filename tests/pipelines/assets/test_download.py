import io
import shutil
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from pipelines.assets import download as download
from pipelines.assets.download import PackageSource


def test_a_host_without_a_name_fails_fast_and_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def refuse(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError("no such host")

    monkeypatch.setattr(download.socket, "create_connection", refuse)
    monkeypatch.setattr(download, "_reachable", {})
    monkeypatch.setattr(download, "_needs_proxy", lambda scheme, host: False)
    for _ in range(3):
        with pytest.raises(download.Unreachable, match=r"host\.invalid"):
            download.download_url("https://host.invalid/file", tmp_path / "x", lambda n: None)
    assert asked == [("host.invalid", 443)]


def test_a_member_is_taken_out_of_a_source_archive(tmp_path: Path) -> None:
    archive = tmp_path / "pkg-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        entry = tarfile.TarInfo("pkg-1.0/data/a.bin")
        entry.size = len(b"weights")
        bundle.addfile(entry, io.BytesIO(b"weights"))
    download.extract_member(archive, "data/a.bin", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"weights"
    with pytest.raises(download.Unreachable, match="no member"):
        download.extract_member(archive, "data/b.bin", tmp_path / "b")


def test_a_client_that_fails_is_tried_again_and_its_last_error_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); raise SystemExit('ERROR: no such version')"
    monkeypatch.setattr(download, "_commands", lambda source: [[sys.executable, "-c", code]])
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    (tmp_path / "nest").mkdir()
    with pytest.raises(download.Unreachable, match="ERROR: no such version"):
        download.download_package(PackageSource("wheel", "x", "1", 1), tmp_path / "nest", lambda n: None)
    assert count.read_text() == "x" * download.ATTEMPTS


def test_npm_missing_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download.shutil, "which", lambda name: None)
    with pytest.raises(download.Unreachable, match="npm"):
        download.download_package(PackageSource("npm", "x", "1", 1), tmp_path, lambda n: None)


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
        totals = [download._bytes_under(tmp_path) for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert all(total % 5 == 0 for total in totals)
