import json
from pathlib import Path

import pytest

from pipelines.dataset.schema import ClipKey
from pipelines.planning import manifests
from pipelines.planning.sources import Source, find_sources


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_manifest_says_who_is_who(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes(b"1234567")
    (tmp_path / "films" / "two.mp4").write_bytes(b"12")
    path = tmp_path / f"manifest.{suffix}"
    if suffix == "csv":
        path.write_text("path,identity,video,split\nfilms/one.mp4,ann,first,train\nfilms/two.mp4,ann,second,\n")
    else:
        rows = [
            {"path": "films/one.mp4", "identity": "ann", "video": "first", "split": "train"},
            {"path": "films/two.mp4", "identity": "ann", "video": "second"},
        ]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert list(find_sources(str(path))) == [
        Source(ClipKey("ann", "first", "0"), "films/one.mp4", 7, "train"),
        Source(ClipKey("ann", "second", "0"), "films/two.mp4", 2, None),
    ]


def test_an_absolute_path_is_where_and_not_what(tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(b"1")
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": str(tmp_path / "one.mp4")}))
    (source,) = find_sources(str(tmp_path / "m.jsonl"))
    assert isinstance(source, Source)
    assert (source.relative, source.location) == ("one.mp4", str(tmp_path / "one.mp4"))


def test_a_size_that_is_given_is_not_looked_up(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "far/away.mp4", "num_bytes": 12}')
    assert [row.num_bytes for row in manifests.read(str(tmp_path / "m.jsonl"))] == [12]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "one.mp4", "identty": "ann"}', "line 1: unknown column 'identty'"),
        ('{"identity": "ann"}', "line 1: no path"),
        ('{"path": "one.mp4", "split": "dev"}', "split must be one of"),
        ('{"path": "one.mp4", "identity": "a/b"}', "line 1: identity must be"),
        ('{"path": "one.mp4", "num_bytes": -1}', "num_bytes must be a whole number, got '-1'"),
        ("path: one.mp4", "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ("", "names no clip"),
    ],
)
def test_a_broken_manifest_names_line_and_reason(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(b"1")
    (tmp_path / "m.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        list(find_sources(str(tmp_path / "m.jsonl")))


def test_bytes_that_are_no_text_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path\n\xff\xfe.mp4\n")
    with pytest.raises(ValueError, match=r"m\.csv is not UTF-8 text"):
        list(find_sources(str(tmp_path / "m.csv")))
    (tmp_path / "m.jsonl").write_text('{"path": "gone.mp4"}')
    with pytest.raises(FileNotFoundError, match=r"line 1: .*gone\.mp4"):
        list(find_sources(str(tmp_path / "m.jsonl")))
