from pathlib import Path

import pytest

from pipelines.planning.layouts import TRAIN
from pipelines.planning.splits import published_test_identities, read_test_list, split_of_folders


def test_the_published_test_identities_are_known() -> None:
    published = published_test_identities()
    assert len(published) == 118 + 40
    assert {"id10270", "id10309", "id00017", "id09017"} <= published
    assert not {"id10269", "id10310", "id00012"} & published


def test_a_list_names_one_a_line_or_is_voxcelebs_own(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# mine\nann\n\nSmith, Bob\n")
    found = read_test_list(str(tmp_path / "list.txt"))
    assert (found.names, found.is_table) == ({"ann", "Smith, Bob"}, False)
    header = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    (tmp_path / "vox1_meta.csv").write_text(
        f"{header}id1\tA.J._Buckley\tm\tIreland\tdev\nid2\tEartha_Kitt\tf\tUSA\ttest\n"
    )
    found = read_test_list(str(tmp_path / "vox1_meta.csv"))
    assert (found.names, found.is_table) == ({"id2"}, True)
    (tmp_path / "empty.txt").write_text("# nobody\n")
    with pytest.raises(ValueError, match=r"empty\.txt names no test identity"):
        read_test_list(str(tmp_path / "empty.txt"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_test_list(str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        ((), None),
        (("ann", "talk"), None),
        (("dev", "mp4"), None),
        (("data", "train"), TRAIN),
        (("trainval",), TRAIN),
        (("Val",), "val"),
        (("a", "TEST", "b"), "test"),
        (("test.tar",), "test"),
        (("train", "test"), "test"),  # who is held out anywhere is held out
        (("testers", "training-videos"), None),
    ],
)
def test_folders_of_these_names_are_splits_wherever_they_stand(folders: tuple[str, ...], split: str | None) -> None:
    assert split_of_folders(folders) == split
