import json
from pathlib import Path
from typing import get_args

import pytest
from layout_trees import TREES, make, plan, rows

from pipelines.planning.layouts import LAYOUTS, LayoutName

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", TREES)
def test_people_in_the_wrong_places_end_in_the_right_splits(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    make(tmp_path, tree)
    wanted = {path: row for path, row in tree.items() if row is not None and not path.endswith(".txt")}
    prepared = plan(tmp_path)
    assert rows(prepared) == wanted
    films, people = len(wanted), len({row.split()[1] for row in wanted.values()})
    assert prepared.notes()[0].startswith(f"{films} films, {people} identities (from ")
    assert prepared.notes()[0].endswith(f"), layout {name}")


def test_there_is_a_tree_an_entry_and_a_line_of_the_table_for_each_layout() -> None:
    names = set(get_args(LayoutName))
    assert names - {"auto", "manifest"} == set(TREES)
    assert {layout.name for layout in LAYOUTS} == names - {"auto", "manifest", "voxceleb", "frames", "flat"}
    page = (ROOT / "docs" / "how-to" / "data-sets.md").read_text()
    for layout in LAYOUTS:
        assert f"`{layout.name}`" in page
        assert layout.source.partition("/blob/")[0] in page
        assert layout.licence.partition(";")[0] in page


def test_annotations_cut_raw_videos_into_clips(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["raw/M2Ohb0FAaJU.mp4", "raw/_0tf2n3rlJU.mp4"]))
    span, box = {"start_sec": 1, "end_sec": 2}, {"top": 0, "bottom": 1, "left": 0, "right": 1}
    videos = {"M2Ohb0FAaJU_1": "M2Ohb0FAaJU", "M2Ohb0FAaJU_2": "M2Ohb0FAaJU", "_0tf2n3rlJU_0": "_0tf2n3rlJU"}
    clips = {name: {"ytb_id": video, "duration": span, "bbox": box} for name, video in videos.items()}
    (tmp_path / "in" / "celebvhq_info.json").write_text(json.dumps({"meta_info": {}, "clips": clips}))
    prepared = plan(tmp_path)
    found = {clip.boxes: (clip.source, str(clip.key), clip.is_excerpt) for c in prepared.plan.all_clips() for clip in c}
    assert found == {
        "celebvhq_info.json#M2Ohb0FAaJU_1": ("raw/M2Ohb0FAaJU.mp4", "M2Ohb0FAaJU/1/0", True),
        "celebvhq_info.json#M2Ohb0FAaJU_2": ("raw/M2Ohb0FAaJU.mp4", "M2Ohb0FAaJU/2/0", True),
        "celebvhq_info.json#_0tf2n3rlJU_0": ("raw/_0tf2n3rlJU.mp4", "_0tf2n3rlJU/0/0", True),
    }
    assert prepared.notes()[0] == "3 films, 2 identities (from the YouTube ids), layout celebv-hq"
