from pathlib import Path

import pytest

from pipelines import storage
from pipelines.storage.urls import resolve

NAMES = [
    "TEDx :: Talk",
    "s3::x",
    "a::b::c",
    "file:x",
    "100%",
    "%20",
    "a#b",
    "a?b",
    "take[1]",
    "*",
    "~x",
    "-o",
    "ü\nb",
    " a ",
]


def test_join_keeps_one_slash() -> None:
    assert storage.join("gs://bucket/a/", "b", "c") == "gs://bucket/a/b/c"
    assert storage.join("/", "b") == "/b"
    assert storage.join("here") == "here"


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("films.tar", "."),
        ("./films.tar", "."),
        ("/films.tar", "/"),
        ("a/b.tar", "a"),
        ("file:///films.tar", "file:///"),
        ("file:///a/b.tar", "file:///a"),
        ("gs://bucket/a/b.tar", "gs://bucket/a"),
        ("gs://bucket/b.tar", "gs://bucket"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_a_file_has_a_folder(url: str, folder: str) -> None:
    assert storage.parent(url) == folder


@pytest.mark.parametrize(
    ("url", "root", "path"),
    [
        ("./films.tar", ".", "films.tar"),
        ("/films.tar", "/", "films.tar"),
        ("a/b/c.mp4", "a/", "b/c.mp4"),
        ("gs://bucket/a/b", "gs://bucket", "a/b"),
    ],
)
def test_a_path_below_a_folder_loses_the_folder_and_nothing_else(url: str, root: str, path: str) -> None:
    assert storage.relative(url, root) == path


def test_a_path_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"films\.tar does not lie below \."):
        storage.relative("films.tar", ".")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["relative", "absolute", "url"])
def test_a_local_name_is_a_name_whatever_its_letters(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if form == "relative" and name.startswith("~"):
        pytest.skip("a leading ~ is somebody's home folder")
    root = {"relative": "", "absolute": f"{tmp_path}/", "url": f"file://{tmp_path}/"}[form]
    folder, file = root + name, f"{root}{name}/{name}.mp4"
    storage.write_bytes(file, b"film")
    assert (tmp_path / name / f"{name}.mp4").read_bytes() == b"film"
    assert [*tmp_path.iterdir()] == [tmp_path / name]
    assert storage.is_local(file)
    assert storage.local_path(file) == tmp_path / name / f"{name}.mp4"
    assert (storage.exists(file), storage.is_folder(folder), storage.size(file)) == (True, True, 4)
    assert storage.read_bytes(file) == b"film"
    assert storage.ranges([file], [1], [2]) == [b"il"]
    assert storage.list(folder) == [file]
    assert [info.url for info in storage.walk(folder)] == [file]
    storage.remove(folder, recursive=True)
    assert [*tmp_path.iterdir()] == []


def test_a_chain_is_made_of_urls_and_protocols_only() -> None:
    assert resolve("memory://a/TEDx :: Talk.mp4")[1].endswith("a/TEDx :: Talk.mp4")
    chained, path = resolve("simplecache::file:///tmp/x.mp4")
    assert (type(chained).__name__, path) == ("SimpleCacheFileSystem", "/tmp/x.mp4")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("clip.mp4", False),
        ("a/b/clip.mp4", False),
        ("._clip.mp4", True),
        ("a/._clip.mp4", True),
        ("./clip.mp4", False),
        (".DS_Store", True),
        (".cache/clip.mp4", True),
        ("__MACOSX/clip.mp4", True),
        ("a/__MACOSX/._clip.mp4", True),
        ("__MACOSX.mp4", False),
    ],
)
def test_what_macos_leaves_is_hidden(path: str, hidden: bool) -> None:
    assert storage.is_hidden(path) == hidden


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/mona%20lisa.jpg", "mona%20lisa.jpg"),
        ("gs://bucket/people/mona.jpg?", "mona.jpg?"),
        ("gs://bucket/people/", "people"),
        ("https://host/a%20b.jpg?sig=1/2.png#x", "a b.jpg"),
        ("https://host/..%2F..%2Fetc%2Fpasswd", "passwd"),
    ],
)
def test_the_name_of_a_url_is_without_its_query(url: str, name: str) -> None:
    assert storage.name(url) == name
