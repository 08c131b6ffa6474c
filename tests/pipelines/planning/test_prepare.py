"""OUT begun, continued, added to, or refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config_diff import differences
from pipelines.dataset import schema
from pipelines.dataset.forgotten_log import LOG, Forgotten, add_to_log, hash_of
from pipelines.planning.plan import MISSING, PlanConfig
from pipelines.planning.plan_file import PlanFile, plan_row, write_plan
from pipelines.planning.prepare import PlanRequest, prepare

SETTINGS: dict[str, Any] = {"clip": {"size": 256}, "plan": {}}


@pytest.fixture
def request_(tmp_path: Path) -> PlanRequest:
    """A corpus of three videos of different sizes, and an OUT that does not exist yet."""
    (tmp_path / "in").mkdir()
    for name in ("a", "bb", "ccc"):
        (tmp_path / "in" / f"{name}.mp4").write_bytes(name.encode())
    config = PlanConfig(val_fraction=0.0, test_fraction=0.0)
    return PlanRequest(str(tmp_path / "in"), str(tmp_path / "out"), "auto", SETTINGS, config)


def test_a_data_set_begun_by_an_earlier_version_goes_on_as_it_was_begun(request_: PlanRequest) -> None:
    yunet = "face_detection_yunet_2023mar_int8bq.onnx"
    old = {"clip": {"size": 256}, "plan": {}, "weights": {"face_landmarker.task": "a"}}
    clip, weights = {"size": 256, "second_look": True}, {**old["weights"], yunet: "b"}
    new = {"file_layout": "hive", "clip": clip, "plan": {}, "weights": weights}
    prepare(dataclasses.replace(request_, settings=old))
    put(request_, "d.mp4")
    prepared = prepare(dataclasses.replace(request_, settings=new))
    assert prepared.changes.num_new == 1
    assert prepared.plan.config == old
    # Begun with it, it is part of the config.
    other = dataclasses.replace(request_, out=f"{request_.out}2")
    prepare(dataclasses.replace(other, settings=new))
    without = {**new, "clip": {"size": 256, "second_look": False}}
    with pytest.raises(ValueError, match=r"another config: clip\.second_look True -> False"):
        prepare(dataclasses.replace(other, settings=without))


def put(request: PlanRequest, name: str, content: bytes = b"x" * 9) -> None:
    path = Path(request.src, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def sources(plan: PlanFile) -> list[str]:
    return [clip.source for clips in plan.all_clips() for clip in clips]


def names(plan: PlanFile) -> list[list[str]]:
    return [[clip.source for clip in clips] for clips in plan.all_clips()]


def test_a_plan_has_a_row_group_for_each_shard_and_no_place_of_this_machine(request_: PlanRequest) -> None:
    plan = prepare(request_).plan
    metadata = pq.read_metadata(Path(request_.out) / "plan.parquet" / "part-00000.parquet")
    assert metadata.num_row_groups == plan.num_shards == 3
    assert sorted(sources(plan)) == ["a.mp4", "bb.mp4", "ccc.mp4"]
    assert [clip.source for clip in plan.clips(1)] == names(plan)[1]
    rows = pq.read_table(Path(request_.out) / "plan.parquet").to_pylist()
    assert not any(request_.src in str(row) for row in rows)
    assert plan.corpus == request_.src


def test_the_same_request_leaves_the_plan_as_it_is(request_: PlanRequest) -> None:
    prepare(request_)
    before = {path: path.stat().st_mtime_ns for path in Path(request_.out).rglob("*")}
    prepared = prepare(request_)
    assert (prepared.changes.num_known, prepared.changes.num_new) == (3, 0)
    assert {path: path.stat().st_mtime_ns for path in Path(request_.out).rglob("*")} == before


def test_new_videos_become_shards_after_the_others(request_: PlanRequest) -> None:
    before = names(prepare(request_).plan)
    digests = [schema.spec_digest("c", map(plan_row, clips)) for clips in PlanFile(request_.out).all_clips()]
    put(request_, "dddd.mp4")
    prepared = prepare(request_)
    assert names(prepared.plan) == [*before, ["dddd.mp4"]]
    assert [schema.spec_digest("c", map(plan_row, c)) for c in prepared.plan.all_clips()][:3] == digests
    assert prepared.notes() == [
        "4 films, 4 identities (from each file), layout flat",
        "1 new clips were added to the 3 planned before",
    ]


def test_videos_that_are_gone_stay_planned(request_: PlanRequest) -> None:
    prepare(request_)
    Path(request_.src, "a.mp4").unlink()
    prepared = prepare(request_)
    assert prepared.plan.num_shards == 3
    assert prepared.notes()[1:] == ["1 planned clips are not in the source any more; what was made of them stays"]


def test_a_video_that_changed_is_refused_by_name(request_: PlanRequest) -> None:
    prepare(request_)
    put(request_, "a.mp4", b"another film")
    with pytest.raises(ValueError, match=r"begun from other inputs: a\.mp4 changed since"):
        prepare(request_)


def test_a_file_that_was_missing_may_come_back(request_: PlanRequest, tmp_path: Path) -> None:
    (tmp_path / "in" / "m.csv").write_text("path\na.mp4\ngone.mp4\n")
    request = dataclasses.replace(request_, src=str(tmp_path / "in" / "m.csv"))
    prepared = prepare(request)
    assert {clip.source: clip.num_bytes for clips in prepared.plan.all_clips() for clip in clips} == {
        "a.mp4": 1,
        "gone.mp4": MISSING,
    }
    put(request_, "gone.mp4")
    assert prepare(request).changes.changed == ()


def test_another_corpus_is_refused_and_added_only_when_asked_for(request_: PlanRequest, tmp_path: Path) -> None:
    prepare(request_)
    other = dataclasses.replace(request_, src=str(tmp_path / "more"))
    put(other, "e.mp4")
    with pytest.raises(ValueError, match=r"none of its 3 clips is in .*more\. Take another OUT, or --add"):
        prepare(other)
    prepared = prepare(dataclasses.replace(other, add=True))
    assert prepared.plan.corpus == request_.src
    (clip,) = prepared.plan.clips(3)
    assert (clip.source, clip.location) == ("e.mp4", str(tmp_path / "more" / "e.mp4"))


def test_another_config_is_refused_with_the_difference(request_: PlanRequest) -> None:
    prepare(request_)
    with pytest.raises(ValueError, match=r"another config: clip\.size 256 -> 128\. Take the same flags"):
        prepare(dataclasses.replace(request_, settings={"clip": {"size": 128}, "plan": {}}))


def test_differences_are_shown_by_name() -> None:
    earlier = {"clip": {"size": 256, "crop": {"margin": 2.0}}, "gone": 1}
    now = {"clip": {"size": 128, "crop": {"margin": 2.0}}, "new": 2}
    assert differences(earlier, now) == ["clip.size 256 -> 128", "gone 1 -> None", "new None -> 2"]


def test_equal_videos_are_found_by_content(request_: PlanRequest) -> None:
    put(request_, "a-copy.mp4", b"a")
    put(request_, "b-like.mp4", b"b")
    prepared = prepare(request_)
    assert prepared.num_duplicates == 1
    marked = {
        clip.source: clip.duplicate_of for clips in prepared.plan.all_clips() for clip in clips if clip.duplicate_of
    }
    assert marked == {"a-copy.mp4": "a/a/0"}


def test_who_was_forgotten_does_not_come_back(request_: PlanRequest) -> None:
    prepare(request_)
    add_to_log(request_.out, Forgotten(hash_of("zoe"), "2026-11-24T00:00:00Z", 1, 9, (0,)))
    put(request_, "zoe.mp4")
    prepared = prepare(request_)
    assert "zoe.mp4" not in sources(prepared.plan)
    assert prepared.changes.num_forgotten == 1
    (Path(request_.out) / LOG).write_text("broken")
    with pytest.raises(ValueError, match=r"forgotten\.jsonl has a line that is no record"):
        prepare(request_)


def test_what_is_no_data_set_is_refused(request_: PlanRequest, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="out is a file; a data set is a folder"):
        prepare(request_)
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has a dataset\.json but no plan\.parquet"):
        prepare(request_)
    (tmp_path / "out" / "plan.parquet").write_bytes(b"PAR1 no plan")
    with pytest.raises(ValueError, match=r"plan\.parquet is not a plan of this program"):
        prepare(request_)


def test_a_plan_must_number_its_shards(tmp_path: Path, request_: PlanRequest) -> None:
    (clips, *_) = prepare(request_).plan.all_clips()
    with pytest.raises(ValueError, match="shard 1 of the plan holds clips of another one"):
        write_plan(str(tmp_path / "p"), SETTINGS, "", [clips, clips])
