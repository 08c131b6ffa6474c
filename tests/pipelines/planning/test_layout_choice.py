from pathlib import Path

import pytest
from layout_trees import TREES, make, plan, rows

from pipelines.dataset.schema import ClipKey
from pipelines.planning.layouts import LayoutName
from pipelines.planning.sources import Source, find_sources


@pytest.mark.parametrize("name", [name for name in TREES if name not in ("voxceleb", "frames", "flat")])
def test_a_layout_that_is_asked_for_is_not_left_for_another(name: str, tmp_path: Path) -> None:
    make(tmp_path, {**TREES[name], "stray film.mp4": None})
    with pytest.raises(
        ValueError, match=rf"1 of \d+ films below .* are not named as layout {name} asks .*: stray film"
    ):
        list(find_sources(str(tmp_path / "in"), name))  # type: ignore[arg-type]


def test_auto_says_which_film_keeps_it_from_a_layout(tmp_path: Path) -> None:
    make(tmp_path, {**TREES["crema-d"], "stray film.mp4": None})
    listing = find_sources(str(tmp_path / "in"))
    assert listing.layout == "flat"
    assert listing.notes == [
        "warning: 4 of the first 5 films are named as in layout crema-d, but stray film.mp4 is not, so the layout is "
        "not used: move such films away, or give --layout"
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["participant_1.mp4", "participant_2.mp4", "interview01_1.mp4"],  # as long as ids of YouTube
        ["HolidayParis_1.mp4", "HolidayRome_2.mp4"],  # like HDTF's people
        ["M003.mp4", "W009.mp4"],
        ["s1/clip.mpg", "s2/clip.mpg"],
    ],
)
def test_a_plain_folder_is_not_taken_for_a_data_set(names: list[str], tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(names))
    assert find_sources(str(tmp_path / "in")).layout == "flat"


def test_a_split_is_never_a_person(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["train/ann/1.mp4", "test/bob/1.mp4"]))
    assert rows(plan(tmp_path)) == {
        "train/ann/1.mp4": "train train_ann_1 train_ann_1 0",
        "test/bob/1.mp4": "test test_bob_1 test_bob_1 0",
    }
    with pytest.raises(ValueError, match=r"2 of 2 films below .* are not named as layout voxceleb asks"):
        list(find_sources(str(tmp_path / "in"), "voxceleb"))


def test_below_a_split_three_levels_are_identity_video_clip(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["train/ann/talk/1.mp4", "test/bob/talk/1.mp4"]))
    assert rows(plan(tmp_path)) == {
        "train/ann/talk/1.mp4": "train ann talk 1",
        "test/bob/talk/1.mp4": "test bob talk 1",
    }


def test_anybodys_names_are_read_by_an_expression(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["2024/shoot-ann-03.mov", "2025/shoot-ann-04.mov", "test/shoot-bob-01.mov"]))
    prepared = plan(tmp_path, identity_from=r"shoot-(?P<identity>\w+)-(?P<video>\d+)")
    assert rows(prepared) == {
        "2024/shoot-ann-03.mov": "train ann 03 0",
        "2025/shoot-ann-04.mov": "train ann 04 0",
        "test/shoot-bob-01.mov": "test bob 01 0",
    }
    assert prepared.notes()[0] == "3 films, 2 identities (from --identity-from), layout flat"


@pytest.mark.parametrize("layout", ["auto", "frames"])
def test_an_expression_reads_the_paths_of_frames(layout: LayoutName, tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["shoot/ann-1/1.png", "shoot/ann-1/2.png", "shoot/bob-1/1.png", "shoot/bob-1/2.png"]))
    prepared = plan(tmp_path, layout, identity_from=r"(?P<identity>\w+)-(?P<video>\d)/$")
    assert rows(prepared) == {"shoot/ann-1/": "train ann 1 0", "shoot/bob-1/": "train bob 1 0"}


@pytest.mark.parametrize(
    ("expression", "layout", "message"),
    [
        ("(", "auto", r"--identity-from '\(' is not a regular expression"),
        (r"(?P<who>\w+)", "auto", r"needs a group \(\?P<identity>\.\.\.\)"),
        (r"(?P<identity>ann)", "auto", r"finds no identity in 1 of 2 films: bob\.mp4"),
        (r"(?P<identity>ann)", "grid", "--identity-from and --layout grid both say"),
    ],
)
def test_an_expression_that_does_not_fit_is_refused(
    expression: str, layout: LayoutName, message: str, tmp_path: Path
) -> None:
    make(tmp_path, dict.fromkeys(["ann.mp4", "bob.mp4"]))
    with pytest.raises(ValueError, match=message):
        list(find_sources(str(tmp_path / "in"), layout, expression))


def test_many_films_of_as_many_people_are_doubted(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(f"{n}.mp4" for n in range(20)))
    assert not any("warning" in note for note in plan(tmp_path).notes())
    make(tmp_path, {"20.mp4": None})
    assert "warning: each of the 21 films counts as another person" in plan(tmp_path).notes()[1]


def test_a_name_of_the_test_list_that_nobody_has_is_listed(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["Zo\u00eb.mp4", "bob.mp4"]))
    (tmp_path / "list.txt").write_text("Zoe\u0308\nBob\nbobb\n")  # é as two characters, as macOS writes it
    with pytest.raises(ValueError, match=r"list\.txt: 2 of its 3 names are no identity of the films: Bob, bobb"):
        plan(tmp_path, test_list=str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("Zoe\u0308\n")
    assert rows(plan(tmp_path, test_list=str(tmp_path / "list.txt"))) == {
        "Zo\u00eb.mp4": "test Zo\u00eb Zo\u00eb 0",
        "bob.mp4": "train bob bob 0",
    }


def test_the_tables_of_voxceleb_may_name_people_that_a_corpus_has_not(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["id90001/v/00001.mp4", "id90002/v/00001.mp4"]))
    (tmp_path / "meta.csv").write_text("id90001,x,test\nid90077,y,test\nid90002,z,dev\n")
    assert rows(plan(tmp_path, test_list=str(tmp_path / "meta.csv")))["id90001/v/00001.mp4"].startswith("test")


def test_one_person_in_two_forms_of_unicode_is_one(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["Zo\u00eb/talk/1.mp4", "Zoe\u0308/walk/1.mp4"]))
    found = [item.key for item in find_sources(str(tmp_path / "in")) if isinstance(item, Source)]
    assert sorted(found) == [ClipKey("Zo\u00eb", "talk", "1"), ClipKey("Zo\u00eb", "walk", "1")]


def test_pictures_that_are_not_numbered_are_no_film_unless_asked_for(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["people/ann.jpg", "people/bob.jpg"]))
    with pytest.raises(ValueError, match=r"no video in .*1 folders of pictures: --layout frames reads them"):
        list(find_sources(str(tmp_path / "in")))
    assert rows(plan(tmp_path, "frames")) == {"people/": "train people people 0"}


def test_frames_that_lie_in_src_itself_are_one_film(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["1.png", "2.png"]))
    (source,) = find_sources(str(tmp_path / "in"))
    assert isinstance(source, Source)
    assert (source.relative, source.key) == ("./", ClipKey("in", "in", "0"))


@pytest.mark.parametrize("identities", [("id00012", "id00017"), ("ann", "bob")])
def test_frames_in_voxcelebs_tree_are_its_clips(identities: tuple[str, str], tmp_path: Path) -> None:
    first, second = identities
    folders = [f"train/{first}/talk/00001/", f"train/{first}/walk/00001/", f"test/{second}/talk/00002/"]
    make(tmp_path, {f"{folder}{number}.jpg": None for folder in folders for number in range(2)})
    prepared = plan(tmp_path)
    assert rows(prepared) == {
        folders[0]: f"train {first} talk 00001",
        folders[1]: f"train {first} walk 00001",
        folders[2]: f"test {second} talk 00002",
    }
    assert prepared.notes()[0] == "3 films, 2 identities (from the folders), layout voxceleb"


def test_files_that_are_no_videos_are_counted_by_kind(tmp_path: Path) -> None:
    names = ["a.mp4", "b.rm", "c.RM", "notes.txt", "readme", "._a.mp4", ".DS_Store"]
    make(tmp_path, dict.fromkeys(names))
    listing = find_sources(str(tmp_path / "in"))
    assert len(list(listing)) == 1
    assert listing.notes == ["4 files that are no videos are left out: 2 .rm, 1 .txt, 1 without suffix"]
