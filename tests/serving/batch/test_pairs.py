"""Pairs files, and the line that every mistake in one is told with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.faces.identity.face_choice import FaceChoice
from serving.batch.pairs import PairsError, read_pairs
from training.animation.render import RenderOptions
from training.animation.retarget import PARTS, MotionOptions

OPTIONS = RenderOptions(motion=MotionOptions(smoothing=0.25), max_size=512)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ann.jpg", "bob.jpg", "talk.mp4", "smile.mp4", "cyd/manifest.json", "empty/x.txt", "more/ann.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def write(folder: Path, *lines: str, name: str = "pairs.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def test_a_row_is_a_video_whose_paths_are_relative_to_the_file(folder: Path) -> None:
    url = write(folder, "source,driver", "ann.jpg,talk.mp4", f"{folder}/bob.jpg,smile.mp4", "cyd,talk.mp4")
    items = read_pairs(url, OPTIONS, face=FaceChoice(1))
    assert [item.name for item in items] == ["ann--talk", "bob--smile", "cyd--talk"]
    assert [item.source.input.kind for item in items] == ["picture", "picture", "avatar"]
    assert items[0].source.input.url == f"{folder}/ann.jpg"
    assert items[0].driver.url == f"{folder}/talk.mp4"
    assert {item.options for item in items} == {OPTIONS}
    assert {item.source.face for item in items} == {FaceChoice(1)}


def test_a_row_has_options_of_its_own_and_an_empty_cell_has_the_flags(folder: Path) -> None:
    url = write(
        folder,
        "driver,source,name,expression,head_motion,gaze,smoothing,frame,max_size,face,driver_face",
        'talk.mp4,ann.jpg,one,0.5,0.25,0,1,crop,256,2,"30,40"',
        "talk.mp4,ann.jpg,two,,,,,,,,",
    )
    first, second = read_pairs(url, OPTIONS, face=None)
    assert first.options == RenderOptions(
        MotionOptions(0.5, 0.25, 0.0, 1.0), frame="crop", max_size=256, driver_face="30,40"
    )
    assert (first.name, first.source.face) == ("one", FaceChoice(2))
    assert (second.name, second.options, second.source.face) == ("two", OPTIONS, None)


def test_a_spreadsheet_may_mark_its_encoding_quote_cells_and_leave_lines_empty(folder: Path) -> None:
    (folder / "ann, 1.jpg").write_text("comma")
    (folder / "pairs.csv").write_bytes('\ufeffsource,driver\r\n\r\n"ann, 1.jpg", talk.mp4\r\n,\r\n'.encode())
    (item,) = read_pairs(str(folder / "pairs.csv"), OPTIONS, None)
    assert item.name == "ann_ 1--talk"


def test_json_lines_hold_numbers_and_null(folder: Path) -> None:
    rows = [
        {"source": "ann.jpg", "driver": "talk.mp4", "expression": 0.5, "max_size": 256, "name": None},
        {"source": "ann.jpg", "driver": "smile.mp4", "expression": None},
    ]
    url = write(folder, json.dumps(rows[0]), "", json.dumps(rows[1]), name="pairs.jsonl")
    first, second = read_pairs(url, OPTIONS, None)
    assert (first.options.motion.expression, first.options.max_size) == (0.5, 256)
    assert second.options == OPTIONS


def test_parts_are_a_text_or_a_list(folder: Path) -> None:
    row = {"source": "ann.jpg", "driver": "talk.mp4"}
    rows = [
        row | {"parts": "gaze, lips", "name": "a"},
        row | {"parts": ["lips"], "motion": "absolute", "name": "b"},
        row,
    ]
    items = read_pairs(write(folder, *map(json.dumps, rows), name="pairs.jsonl"), OPTIONS, None)
    motions = [item.options.motion for item in items]
    assert [motion.parts for motion in motions] == [("lips", "gaze"), ("lips",), OPTIONS.motion.parts]
    assert [motion.absolute for motion in motions] == [False, True, False]


def test_a_film_is_dubbed_unless_its_row_or_the_flag_names_parts(folder: Path) -> None:
    rows = ("ann.jpg,talk.mp4,,", "smile.mp4,talk.mp4,,none", "talk.mp4,smile.mp4,eyes,source")
    url = write(folder, "source,driver,parts,sound", *rows)
    items = read_pairs(url, OPTIONS, None)
    assert [item.source.input.kind for item in items] == ["picture", "film", "film"]
    assert [item.options.motion.parts for item in items] == [PARTS, ("lips",), ("eyes",)]
    assert [item.options.sound for item in items] == ["auto", "none", "source"]
    asked = read_pairs(url, OPTIONS, None, film_parts=("brows",))
    assert [item.options.motion.parts for item in asked] == [PARTS, ("brows",), ("eyes",)]


def test_a_pairs_file_and_its_inputs_can_be_urls(folder: Path) -> None:
    for name in ("ann.jpg", "talk.mp4"):
        storage.write_bytes(f"memory://pairs/{name}", b"x")
    storage.write_bytes("memory://pairs/pairs.csv", f"source,driver\nann.jpg,{folder}/talk.mp4\n".encode())
    (item,) = read_pairs("memory://pairs/pairs.csv", OPTIONS, None)
    assert item.source.input.url == "memory://pairs/ann.jpg"
    assert item.driver.url == f"{folder}/talk.mp4"


def test_two_sources_of_one_name_are_told_apart_and_one_content_is_one_source(folder: Path) -> None:
    (folder / "copy").mkdir()
    (folder / "copy" / "ann.jpg").write_text("ann.jpg")
    url = write(
        folder,
        "source,driver,name",
        "ann.jpg,talk.mp4,one",
        "more/ann.jpg,talk.mp4,two",
        "copy/ann.jpg,talk.mp4,three",
    )
    one, two, three = (item.source for item in read_pairs(url, OPTIONS, None))
    assert one.input.name != two.input.name
    assert one == three


HEADER = "source,driver,name,expression,frame,max_size,face"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "pairs.csv: no pairs"),
        ([HEADER], "pairs.csv: no pairs"),
        (["source", "ann.jpg"], "line 1: column 'driver' is missing"),
        (
            ["source,driver,colour", "ann.jpg,talk.mp4,red"],
            "line 1: unknown column 'colour'; known: source, driver",
        ),
        (["source;driver", "ann.jpg;talk.mp4"], "line 1: unknown column 'source;driver'"),
        (["source,driver,source", "ann.jpg,talk.mp4,x"], "line 1: column 'source' is there twice"),
        ([HEADER, "", "ann.jpg,"], "line 3: the cell 'driver' is empty"),
        ([HEADER, ",talk.mp4"], "line 2: the cell 'source' is empty"),
        ([HEADER, "ann.jpg,talk.mp4,,,,,,,"], "line 2: 9 cells, but the header names 7 columns"),
        ([HEADER, '"ann.jpg,talk.mp4'], "line 2: unexpected end of data"),
        ([HEADER, "nobody.jpg,talk.mp4"], r"line 2: source: .*/nobody.jpg does not exist"),
        ([HEADER, "ann.jpg,talk.mp4", "ann.jpg,nothing.mp4"], r"line 3: driver: .*/nothing.mp4 does not exist"),
        ([HEADER, "empty,talk.mp4"], r"line 2: source: .*/empty is a folder and no avatar"),
        ([HEADER, "ann.jpg,empty"], r"line 2: driver: .*/empty is a folder"),
        ([HEADER, "ann.jpg,talk.mp4,,much"], "line 2: expression: .* valid number.* got 'much'"),
        ([HEADER, "ann.jpg,talk.mp4,,7"], r"line 2: expression .* \[0, 3\], got 7"),
        ([HEADER, "ann.jpg,talk.mp4,,nan"], "line 2: expression .*, got nan"),
        ([HEADER, "ann.jpg,talk.mp4,,,whole"], "line 2: frame: .*'full' or 'crop', got 'whole'"),
        (["source,driver,fps", "ann.jpg,talk.mp4,often"], r"line 2: fps must be keep or a number .*, got 'often'"),
        ([HEADER, "ann.jpg,talk.mp4,,,,12"], r"line 2: max_size must lie in \[64, 4096\] pixels, got 12"),
        ([HEADER, "ann.jpg,talk.mp4,,,,99.5"], "line 2: max_size: .*integer.*, got '99.5'"),
        (
            [HEADER, "ann.jpg,talk.mp4,,,,,-1"],
            "line 2: face must be a number from 0, a point X,Y or a box X0,Y0,X1,Y1 in pixels, got '-1'",
        ),
        ([HEADER, "ann.jpg,talk.mp4,../x"], "line 2: name: '../x' is no name for files"),
        ([HEADER, "ann.jpg,talk.mp4,ann.mosaic"], "line 2: name: 'ann.mosaic' is no name for files"),
        ([HEADER, "ann.jpg,talk.mp4,x", "", "bob.jpg,talk.mp4,x"], "lines 2 and 4: both make x.mp4"),
        ([HEADER, "ann.jpg,talk.mp4", "more/ann.jpg,talk.mp4"], "lines 2 and 3: both make ann--talk.mp4"),
    ],
)
def test_a_mistake_is_told_with_its_line(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs(write(folder, *lines), OPTIONS, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: no JSON: "),
        ("[1]", "line 2: no JSON object"),
        ('{"source": "ann.jpg"}', "line 2: column 'driver' is missing"),
        ('{"source": "ann.jpg", "driver": null}', "line 2: the cell 'driver' is empty"),
        ('{"source": "ann.jpg", "driver": "talk.mp4", "mood": 1}', "line 2: unknown column 'mood'"),
        ('{"source": "ann.jpg", "driver": "talk.mp4", "gaze": true}', "line 2: gaze: true is no value"),
        ('{"source": "ann.jpg", "driver": "talk.mp4", "gaze": [1]}', r"line 2: gaze: .*, got '\[1\]'"),
        ('{"source": ["ann.jpg"], "driver": "talk.mp4"}', "line 2: source: .* valid string"),
    ],
)
def test_a_mistake_in_json_is_told_with_its_line(folder: Path, line: str, message: str) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs(
            write(folder, '{"source": "bob.jpg", "driver": "talk.mp4"}', line, name="pairs.jsonl"), OPTIONS, None
        )


def test_files_of_another_kind_or_encoding_are_refused(folder: Path) -> None:
    with pytest.raises(PairsError, match=r"ends with .csv or .jsonl"):
        read_pairs(str(folder / "ann.jpg"), OPTIONS, None)
    with pytest.raises(FileNotFoundError, match=r"none.csv does not exist"):
        read_pairs(str(folder / "none.csv"), OPTIONS, None)
    (folder / "latin.csv").write_bytes("source,driver\nann.jpg,talk.mp4\nJosé.jpg,talk.mp4\n".encode("latin-1"))
    with pytest.raises(PairsError, match=r"latin.csv line 3: not UTF-8 text"):
        read_pairs(str(folder / "latin.csv"), OPTIONS, None)
