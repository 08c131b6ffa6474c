"""What `animate` makes of its arguments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.media.images import PICTURE_SUFFIXES
from serving.batch.inputs import find_drivers, find_sources, safe_name
from serving.batch.results.sidecars import Sidecar, SidecarSource, write_sidecar


def touch(path: Path, content: str = "x") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return str(path)


def test_pictures_avatars_and_folders_of_both_are_sources(tmp_path: Path) -> None:
    picture = touch(tmp_path / "me.jpg", "me")
    touch(tmp_path / "people" / "anna.png", "anna")
    touch(tmp_path / "people" / "notes.txt", "notes")
    touch(tmp_path / "people" / "leo" / "manifest.json", "leo")
    touch(tmp_path / "people" / "leo" / "portrait-0.png", "portrait")
    found = find_sources([picture, str(tmp_path / "people")])
    assert [(item.kind, item.name) for item in found.inputs] == [
        ("picture", "me"),
        ("avatar", "leo"),
        ("picture", "anna"),
    ]
    assert find_sources([str(tmp_path / "people" / "leo")]).inputs[0].kind == "avatar"


def test_a_film_is_a_source_by_its_name_and_not_by_its_folder(tmp_path: Path) -> None:
    for name in ("ann.MP4", "bob.mkv", "cyd.gif", "dee.webp", "eve.png"):
        (tmp_path / name).write_text(name)
    named = find_sources([str(tmp_path / name) for name in ("ann.MP4", "bob.mkv", "cyd.gif", "dee.webp")])
    assert [item.kind for item in named.inputs] == ["film", "film", "picture", "picture"]
    assert [item.kind for item in find_sources([str(tmp_path)]).inputs] == ["picture"] * 3
    assert [item.kind for item in find_sources([f"{tmp_path}/*.mkv"]).inputs] == ["film"]


def test_patterns_match_and_each_file_counts_once(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4"):
        touch(tmp_path / name, name)
    found = find_drivers([str(tmp_path / "*.mp4"), str(tmp_path / "a.mp4"), str(tmp_path)])
    assert [item.name for item in found.inputs] == ["a", "b"]


def test_a_name_that_looks_like_a_pattern_is_a_file_first(tmp_path: Path) -> None:
    assert find_drivers([touch(tmp_path / "take[1].mp4")]).inputs[0].name == "take_1_"


def test_inputs_of_one_name_are_told_apart_by_content(tmp_path: Path) -> None:
    arguments = [touch(tmp_path / "a" / "me.jpg", "1"), touch(tmp_path / "b" / "me.jpg", "2")]
    names = [item.name for item in find_sources(arguments).inputs]
    assert len(set(names)) == 2
    assert all(name.startswith("me-") for name in names)
    assert names == [item.name for item in find_sources(arguments[::-1]).inputs][::-1]


@pytest.mark.parametrize("argument", ["nothing.mp4", "nothing-*.mp4", "memory://nothing.mp4"])
def test_what_does_not_exist_is_an_error_that_names_it(tmp_path: Path, argument: str) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        find_drivers([argument if "://" in argument else str(tmp_path / argument)])


def test_what_cannot_be_read_is_a_problem_and_harms_no_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty").mkdir()
    good = touch(tmp_path / "good.mp4")
    found = find_drivers([str(tmp_path / "pipe.mp4"), str(tmp_path / "empty"), good])
    assert [item.name for item in found.inputs] == ["good"]
    assert [problem.reason.removeprefix(f"{problem.url} ").split(" (")[0] for problem in found.problems] == [
        "is no regular file",
        "holds no videos",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("plain-1.take 2", "plain-1.take 2"),
        ("Мона Лиза é", "Мона Лиза é"),
        ("a%d$(rm)\n'b'", "a_d__rm___b_"),
        ("-rf", "_rf"),
        ("..", "_"),
        ("", "_"),
        ("x" * 300, "x" * 80),
        ("é" * 300, "é" * 40),
    ],
)
def test_names_in_results_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_a_folder_of_drivers_gives_every_kind_of_video_that_preprocess_reads(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        touch(tmp_path / f"driver{suffix}", suffix)
    touch(tmp_path / "notes.txt")
    found = find_drivers([str(tmp_path)])
    assert {item.url for item in found.inputs} == {str(tmp_path / f"driver{suffix}") for suffix in VIDEO_SUFFIXES}
    assert found.problems == ()


def test_a_folder_of_drivers_gives_motion_files_and_no_tables(tmp_path: Path) -> None:
    """A CSV or JSON file in a folder may be anything: key frames and recordings are named one by one."""
    for name in ("ann.motion.parquet", "keys.csv", "keys.json"):
        touch(tmp_path / name, name)
    found = find_drivers([str(tmp_path)])
    assert [item.name for item in found.inputs] == ["ann.motion"]
    assert found.notes == (f"{tmp_path}: 2 files that are no videos are left out: keys.csv, keys.json",)
    named = find_drivers([str(tmp_path / "keys.csv"), str(tmp_path / "keys.json")])
    assert [item.kind for item in named.inputs] == ["driver"] * 2


def test_a_folder_of_portraits_gives_every_kind_of_picture(tmp_path: Path) -> None:
    for suffix in PICTURE_SUFFIXES:
        touch(tmp_path / f"face{suffix.upper()}", suffix)
    found = find_sources([str(tmp_path)])
    assert {item.url for item in found.inputs} == {
        str(tmp_path / f"face{suffix.upper()}") for suffix in PICTURE_SUFFIXES
    }
    # What browsers, telephones and Windows write.
    assert {".jfif", ".jpe", ".avif", ".heic"} <= PICTURE_SUFFIXES
    assert {".mts", ".m2ts", ".wmv", ".gif"} <= VIDEO_SUFFIXES


def test_what_a_folder_holds_besides_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("anna.jpg", "notes.txt", "talk.mp4", "older/leo.jpg", ".DS_Store", "b.psd", "c.raw", "d.svg"):
        touch(tmp_path / name, name)
    assert find_sources([str(tmp_path)]).notes == (
        f"{tmp_path}: 6 files that are no pictures are left out: b.psd, c.raw, d.svg, notes.txt, older/leo.jpg and 1"
        " more",
    )
    assert find_drivers([str(tmp_path / "talk.mp4")]).notes == ()


def test_results_of_earlier_runs_are_no_inputs(tmp_path: Path) -> None:
    """The folder of the drivers, or of the portraits, may be that of the results."""
    touch(tmp_path / "talk.mp4", "driver")
    touch(tmp_path / "clip.mp4", "a driver with a JSON of its own")
    touch(tmp_path / "clip.json", "{}")
    touch(tmp_path / "mona.jpg", "portrait")
    touch(tmp_path / "mine" / "manifest.json", "an avatar")
    for name in ("mona--talk.mp4", "mona--talk.side-by-side.mp4", "mona.mosaic.mp4", "posters/mona--talk.webp"):
        touch(tmp_path / name, name)
    for name in ("index.html", "report/1.parquet", "avatars/mona-12345678/manifest.json"):
        touch(tmp_path / name, name)
    for name, files in (
        ("mona--talk", ("mona--talk.mp4", "mona--talk.side-by-side.mp4")),
        ("mona.mosaic", ("mona.mosaic.mp4",)),
    ):
        one = SidecarSource("x", "0")
        write_sidecar(
            str(tmp_path / f"{name}.json"),
            Sidecar("key", "Sfumato", files, (one,), (one,), "model", {}, 1, "25", 32, 32, False, 1.0),
        )
    drivers, sources = find_drivers([str(tmp_path)]), find_sources([str(tmp_path)])
    assert [item.name for item in drivers.inputs] == ["clip", "talk"]
    assert drivers.notes[0] == f"{tmp_path}: 3 results of earlier runs are left out"
    assert [item.name for item in sources.inputs] == ["mine", "mona"]
    assert sources.notes[0] == f"{tmp_path}: 4 results of earlier runs are left out"
    assert [item.name for item in find_sources([str(tmp_path / "avatars")]).inputs] == ["mona-12345678"]


@pytest.mark.slow
def test_a_signed_url_gives_its_name_without_its_signature(served: str, tmp_path: Path) -> None:
    (tmp_path / "Mona Lisa.jpg").write_bytes(b"picture")
    url = f"{served}/Mona%20Lisa.jpg?X-Amz-Credential=AKIA/2026/s3&X-Amz-Signature=a%2Fb"
    (found,) = find_sources([url]).inputs
    assert (found.kind, found.name, found.url) == ("picture", "Mona Lisa", url)


def test_hidden_files_and_sidecars_in_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("anna.jpg", "._anna.jpg", ".DS_Store", "anna.json", ".trash/leo/manifest.json", "b/manifest.json"):
        touch(tmp_path / "faces" / name, name)
    for name in ("talk.mp4", "._talk.mp4", ".partial-1.mp4", "talk.json"):
        touch(tmp_path / "drivers" / name, name)
    assert [item.name for item in find_sources([str(tmp_path / "faces")]).inputs] == ["b", "anna"]
    assert [item.name for item in find_drivers([str(tmp_path / "drivers") + "/"]).inputs] == ["talk"]


def test_what_macos_leaves_is_no_input_and_colons_make_no_chain(tmp_path: Path) -> None:
    for name in ("TEDx :: Talk.mp4", "._TEDx :: Talk.mp4", "__MACOSX/a.mp4", "Leonardo::Mona [1]?.jpg", "._a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    for arguments in ([str(tmp_path)], [str(tmp_path / "TEDx :: Talk.mp4")]):
        assert [item.url for item in find_drivers(arguments).inputs] == [str(tmp_path / "TEDx :: Talk.mp4")]
    for arguments in ([str(tmp_path)], [str(tmp_path / "Leonardo::Mona [1]?.jpg")]):
        assert [item.url for item in find_sources(arguments).inputs] == [str(tmp_path / "Leonardo::Mona [1]?.jpg")]
