import json
from pathlib import Path

import pytest

from pipelines.dataset.schema import ClipKey
from pipelines.planning import manifests
from pipelines.planning.plan import MISSING
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


def test_the_signature_of_a_url_is_in_no_name(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "https://host/a%20b.mp4?X-Sig=1/2#t", "num_bytes": 9}')
    (source,) = find_sources(str(tmp_path / "m.jsonl"))
    assert isinstance(source, Source)
    assert (source.relative, str(source.key)) == ("a b.mp4", "a b/a b/0")
    assert source.location == "https://host/a%20b.mp4?X-Sig=1/2#t"


def test_a_size_that_is_given_is_not_looked_up(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "far/away.mp4", "num_bytes": 12}')
    assert [row.num_bytes for row in manifests.read(str(tmp_path / "m.jsonl"))] == [12]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "one.mp4", "identty": "ann"}', "line 1: unknown column 'identty'"),
        ('{"identity": "ann"}', "line 1: no path"),
        ('{"path": "one.mp4", "split": "dev"}', "line 1, column split: must be one of train, val, test, got 'dev'"),
        ('{"path": "one.mp4", "identity": "a/b"}', "line 1: identity must be"),
        ('{"path": "one.mp4", "num_bytes": -1}', "line 1, column num_bytes: must be a whole number, got '-1'"),
        ('{"path": "one.mp4", "identity": [1]}', r"line 1, column identity: must be text or a number, got \[1\]"),
        ('{"path": "one.mp4", "identity": true}', "column identity: must be text or a number, got True"),
        ('{"path": {"0": "one.mp4"}}', "column path: must be text or a number, .* pandas writes rows with orient='rec"),
        ("path: one.mp4", "line 1 is not JSON"),
        ('"one.mp4"', "line 1 is not an object"),
        ("[1]", "row 1 is not an object"),
        ("[" * 2000, "is not JSON: "),
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


A, B = "films/a.mp4", "films/b.mp4"
DIALECTS: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "further columns": ("csv", b"path,identity,gender\nfilms/a.mp4,p1,f\nfilms/b.mp4,p2,m\n", [(A, "p1"), (B, "p2")]),
    "semicolons and CRLF": ("csv", b"path;identity\r\nfilms/a.mp4;p1\r\n", [(A, "p1")]),
    "Excel's own first line": ("csv", b"sep=;\r\npath;identity\r\nfilms/a.mp4;p1\r\n", [(A, "p1")]),
    "old Mac's CR": ("csv", b"path,identity\rfilms/a.mp4,p1\r", [(A, "p1")]),
    "empty columns at the end": ("csv", b"path,identity,,\nfilms/a.mp4,p1,,\n", [(A, "p1")]),
    "empty rows at the end": ("csv", b"path,identity\nfilms/a.mp4,p1\n,\n\n", [(A, "p1")]),
    "capitals, and blanks after commas": ("csv", b"Path, Identity\nfilms/a.mp4, p1\n", [(A, "p1")]),
    "a blank before one name": ("csv", b"path,identity\nfilms/a.mp4, p1\nfilms/b.mp4,p1\n", [(A, "p1"), (B, "p1")]),
    "quotes": ("csv", b'"path","identity"\n"films/a.mp4","Smith, Ann"\n', [(A, "Smith, Ann")]),
    "tabs": ("csv", b"path\tidentity\nfilms/a.mp4\tp1\n", [(A, "p1")]),
    "a .tsv": ("tsv", b"identity\tpath\np1\tfilms/a.mp4\n", [(A, "p1")]),
    "UTF-8 with a mark": ("csv", "\ufeffpath,identity\nfilms/a.mp4,Zo\u00eb\n".encode(), [(A, "Zo\u00eb")]),
    "UTF-16": ("csv", "path,identity\nfilms/a.mp4,Zo\u00eb\n".encode("utf-16"), [(A, "Zo\u00eb")]),
    "UTF-16 without a mark": ("csv", "path,identity\nfilms/a.mp4,p1\n".encode("utf-16-le"), [(A, "p1")]),
    "backslashes": ("csv", b"path,identity\nfilms\\a.mp4,p1\n", [(A, "p1")]),
    "a JSON array": ("jsonl", b'[{"path":"films/a.mp4","identity":"p1"}]', [(A, "p1")]),
    "a .json": ("json", b' [\n{"path":"films/a.mp4","identity":"p1"}]', [(A, "p1")]),
    "JSON Lines named .json": ("json", b'{"path":"films/a.mp4","identity":"p1"}\n', [(A, "p1")]),
    "numbers of JSON": (
        "jsonl",
        b'{"path":"films/a.mp4","identity":17,"video":null}\n{"path":"films/b.mp4","identity":17.0,"clip":NaN}\n',
        [(A, "17"), (B, "17")],
    ),
    "text stays as written": ("jsonl", b'{"path":"films/a.mp4","identity":"17.0"}\n', [(A, "17.0")]),
    "a number of CSV": ("csv", b"path,identity\nfilms/a.mp4,17\nfilms/b.mp4,007\n", [(A, "17"), (B, "007")]),
    "num_bytes beside empty cells": ("csv", b"path,identity,num_bytes\nfilms/a.mp4,p1,7.0\n", [(A, "p1")]),
    "a split in capitals": ("csv", b"path,identity,split\nfilms/a.mp4,p1, Train\n", [(A, "p1")]),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_manifest_is_read_in_the_dialects_that_people_write(name: str, tmp_path: Path) -> None:
    suffix, content, rows = DIALECTS[name]
    (tmp_path / "films").mkdir()
    (tmp_path / A).write_bytes(b"1234567")
    (tmp_path / B).write_bytes(b"12")
    (tmp_path / f"m.{suffix}").write_bytes(content)
    listing = find_sources(str(tmp_path / f"m.{suffix}"))
    found = [item for item in listing if isinstance(item, Source)]
    assert [(source.relative, source.key.identity) for source in found] == rows
    assert [source.num_bytes for source in found] == [{A: 7, B: 2}[path] for path, _ in rows]
    unused = ["columns of {} without use here: gender".format(tmp_path / "m.csv")] if "gender" in str(content) else []
    assert listing.notes == unused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,identity\none.mp4,p1,oops\n", r"m\.csv line 2, column 3: 'oops' has no column: the header has 2"),
        ("file,identity\none.mp4,p1\n", r"m\.csv line 1: no column 'path'; columns: file, identity"),
        ("path,identiy\none.mp4,p1\n", "line 1: unknown column 'identiy': 'identity' is meant"),
        ("path,Path\none.mp4,p1\n", "line 1: column 'path' stands twice"),
        ('path,identity\none.mp4,p1\n"one.mp4,p2\n', r"m\.csv line 3: unexpected end of data"),
        ("path,split\none.mp4,train\none.mp4,training\n", "line 3, column split: must be one of .*, got 'training'"),
        ("path,num_bytes\none.mp4,7.5\n", "line 2, column num_bytes: must be a whole number, got '7.5'"),
        ("path,identity\n,p1\n", "line 2: no path"),
        ("path\none.mp4\nnowhere://one.mp4\n", "line 3, column path: nowhere://one.mp4: Protocol not known: nowhere"),
    ],
)
def test_a_broken_table_names_line_and_column(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(b"1")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(find_sources(str(tmp_path / "m.csv")))


def test_missing_files_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1234567")
    gone = [f"gone{number}.mp4" for number in range(7)]
    (tmp_path / "m.csv").write_text("path\na.mp4\n" + "\n".join(gone))
    listing = find_sources(str(tmp_path / "m.csv"))
    found = [item for item in listing if isinstance(item, Source)]
    assert [(source.relative, source.num_bytes) for source in found] == [
        ("a.mp4", 7),
        *((name, MISSING) for name in gone),
    ]
    (note,) = listing.notes
    assert note == (
        f"warning: 7 of 8 files that {tmp_path / 'm.csv'} names do not exist and give no row: line 3: gone0.mp4, "
        "line 4: gone1.mp4, line 5: gone2.mp4, line 6: gone3.mp4, line 7: gone4.mp4 and 2 more"
    )


def test_blanks_and_backslashes_are_part_of_a_path_if_such_a_file_exists(tmp_path: Path) -> None:
    for name in (" a.mp4", "b\\c.mp4"):
        (tmp_path / name).write_bytes(b"1234567")
    (tmp_path / "m.csv").write_text("path\n a.mp4\nb\\c.mp4\n")
    found = [item for item in find_sources(str(tmp_path / "m.csv")) if isinstance(item, Source)]
    assert [(source.relative, source.num_bytes) for source in found] == [(" a.mp4", 7), ("b\\c.mp4", 7)]


def test_a_manifest_may_name_folders_of_frames(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("1.png", "2.png", "._1.png", "notes.txt"):
        (tmp_path / "ann" / name).write_bytes(b"12345")
    (tmp_path / "m.csv").write_text("path,identity\nann,a\n")
    (found,) = find_sources(str(tmp_path / "m.csv"))
    assert isinstance(found, Source)
    assert (found.relative, found.num_bytes, found.key) == ("ann/", 10, ClipKey("a", "ann", "0"))
