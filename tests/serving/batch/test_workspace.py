"""Local copies of remote files."""

from __future__ import annotations

from pathlib import Path

from pipelines import storage
from serving.batch.workspace import Workspace, open_workspace


def test_a_remote_input_is_downloaded_once_and_the_oldest_copies_go(tmp_path: Path) -> None:
    urls = [f"memory://inputs/{number}.mp4" for number in range(40)]
    for url in urls:
        storage.write_bytes(url, url.encode())
    workspace = Workspace("memory://out", tmp_path)
    first = workspace.input(urls[0])
    assert workspace.input(urls[0]) == first
    copies = [workspace.input(url) for url in urls]
    assert len(set(copies)) == 40
    assert sum(path.exists() for path in copies) == 32
    again = workspace.input(urls[0])
    assert again.read_bytes() == urls[0].encode()
    assert again.suffix == ".mp4"


def test_results_for_a_url_are_uploaded_and_do_not_stay(tmp_path: Path) -> None:
    workspace = Workspace("memory://results", tmp_path)
    workspace.output("a.mp4").write_bytes(b"video")
    assert workspace.publish("a.mp4") == "memory://results/a.mp4"
    assert storage.read_bytes("memory://results/a.mp4") == b"video"
    assert not workspace.output("a.mp4").exists()
    assert workspace.result("a.mp4").read_bytes() == b"video"
    workspace.discard("a.mp4")
    assert not workspace.output("a.mp4").exists()


def test_results_in_a_local_folder_stay(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "out"), tmp_path)
    workspace.output("a.mp4").write_bytes(b"video")
    workspace.publish("a.mp4")
    workspace.discard("a.mp4")
    assert workspace.result("a.mp4").read_bytes() == b"video"


def test_messages_name_urls_rather_than_copies(tmp_path: Path) -> None:
    storage.write_bytes("memory://inputs/x.mp4", b"x")
    workspace = Workspace("memory://out", tmp_path)
    path = workspace.input("memory://inputs/x.mp4")
    assert workspace.with_urls(f"{path}: no face") == "memory://inputs/x.mp4: no face"


def test_what_killed_workers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.mp4", ".partial-1.mp4", "avatars/ann/.partial-2", "avatars/ann/manifest.json", "other/.partial-3"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"x")
    with open_workspace(str(out)):
        (out / ".partial-4.mp4").write_bytes(b"x")
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert left == ["a.mp4", "avatars/ann/manifest.json", "other/.partial-3"]
