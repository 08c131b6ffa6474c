import json
from pathlib import Path

import pytest

from pipelines.schema import ClipKey
from pipelines.sources import find_sources


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 7)


def keys(src: Path, layout: str = "auto") -> list[str]:
    return [str(source.key) for source in find_sources(str(src), layout)]  # type: ignore[arg-type]


def test_in_a_flat_folder_each_film_is_a_person(tmp_path: Path) -> None:
    put(tmp_path, "b.mp4", "a.MOV", "notes.txt", ".hidden.mp4", "._a.mov")
    sources = find_sources(str(tmp_path))
    assert [(str(s.key), s.relative, s.num_bytes) for s in sources] == [("a/a/0", "a.MOV", 7), ("b/b/0", "b.mp4", 7)]


def test_films_of_one_stem_are_kept_apart(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "a.mov")
    assert keys(tmp_path) == ["a.mov/a.mov/0", "a.mp4/a.mp4/0"]


def test_voxceleb_trees_are_recognised_at_any_depth(tmp_path: Path) -> None:
    put(tmp_path, "dev/mp4/id00012/vid-A/00001.mp4", "dev/mp4/id00012/vid-A/00002.mp4")
    assert keys(tmp_path) == ["id00012/vid-A/00001", "id00012/vid-A/00002"]


def test_three_levels_are_identity_video_clip(tmp_path: Path) -> None:
    put(tmp_path, "ann/talk/1.mp4", "bob/talk/1.mp4")
    assert keys(tmp_path) == ["ann/talk/1", "bob/talk/1"]
    assert keys(tmp_path, "flat") == ["ann_talk_1/ann_talk_1/0", "bob_talk_1/bob_talk_1/0"]


def test_a_layout_that_does_not_fit_names_the_file(tmp_path: Path) -> None:
    put(tmp_path, "ann/talk/1.mp4", "stray.mp4")
    with pytest.raises(ValueError, match=r"stray\.mp4"):
        find_sources(str(tmp_path), "voxceleb")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_manifest_says_who_is_who(suffix: str, tmp_path: Path) -> None:
    put(tmp_path, "films/one.mp4", "films/two.mp4")
    path = tmp_path / f"manifest.{suffix}"
    if suffix == "csv":
        path.write_text("path,identity,video,split\nfilms/one.mp4,ann,first,train\nfilms/two.mp4,ann,second,\n")
    else:
        rows = [
            {"path": "films/one.mp4", "identity": "ann", "video": "first", "split": "train"},
            {"path": "films/two.mp4", "identity": "ann", "video": "second"},
        ]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    sources = find_sources(str(path))
    assert [(s.key, s.split, s.relative) for s in sources] == [
        (ClipKey("ann", "first", "0"), "train", "films/one.mp4"),
        (ClipKey("ann", "second", "0"), None, "films/two.mp4"),
    ]
    assert Path(sources[0].url).is_file()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "one.mp4", "identty": "ann"}', "line 1: unknown column 'identty'"),
        ('{"identity": "ann"}', "line 1: no path"),
        ('{"path": "one.mp4", "split": "dev"}', "split must be one of"),
        ('{"path": "one.mp4", "identity": "a/b"}', "identity must be"),
        ("path: one.mp4", "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ("", "names no clip"),
    ],
)
def test_a_broken_manifest_names_line_and_reason(line: str, message: str, tmp_path: Path) -> None:
    put(tmp_path, "one.mp4")
    (tmp_path / "m.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        find_sources(str(tmp_path / "m.jsonl"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_sources(str(tmp_path / "nowhere"))
    (tmp_path / "m.jsonl").write_text('{"path": "gone.mp4"}')
    with pytest.raises(FileNotFoundError, match=r"line 1: .*gone\.mp4"):
        find_sources(str(tmp_path / "m.jsonl"))


def test_a_folder_without_films_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match="no video"):
        find_sources(str(tmp_path))
    with pytest.raises(ValueError, match="neither"):
        find_sources(str(tmp_path / "notes.txt"))


def test_one_film_is_a_corpus(tmp_path: Path) -> None:
    put(tmp_path, "one.mp4")
    assert keys(tmp_path / "one.mp4") == ["one/one/0"]


def test_two_clips_of_one_key_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4")
    rows = [{"path": name, "identity": "i", "video": "v"} for name in ("a.mp4", "b.mp4")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"a\.mp4 and b\.mp4 have the same key i/v/0"):
        find_sources(str(tmp_path / "m.jsonl"))
