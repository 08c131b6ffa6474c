"""Sources x drivers in this process, with an avatar maker that writes grey frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grey_avatars import GreyAvatarMaker, animate, rows

from pipelines import storage
from pipelines.media.video import probe
from serving.batch.avatar_maker import VideoFiles
from serving.batch.driver_tracks import OnStep
from serving.batch.items import Item
from training.animation.render import RenderOptions, RenderReport


@pytest.fixture
def inputs(tmp_path: Path, make_video: Any) -> Path:
    for name in ("anna", "leo"):
        (tmp_path / f"{name}.jpg").write_text(name)
    for number, name in enumerate(("smile", "talk")):
        make_video(f"{name}.mp4", [10 + number, 20])
    return tmp_path


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_file())


@pytest.mark.slow
def test_every_source_meets_every_driver(inputs: Path) -> None:
    result = animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    assert dict(result.counts) == {"done": 4, "skipped": 0, "failed": 0}
    assert names(inputs / "out") == sorted(
        f"{source}{rest}"
        for source in ("anna", "leo")
        for rest in (
            *(f"--{driver}{end}" for driver in ("smile", "talk") for end in (".mp4", ".side-by-side.mp4", ".json")),
            ".mosaic.mp4",
            ".mosaic.json",
        )
    )
    assert {artefact.what for artefact in result.made} == {"video", "side by side", "mosaic"}
    assert len(result.made) == 10


@pytest.mark.slow
def test_the_sidecar_says_what_the_video_is_made_of(inputs: Path) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    sidecar = json.loads((inputs / "out" / "anna--talk.json").read_text())
    assert sidecar["drivers"][0]["path"] == str(inputs / "talk.mp4")
    assert len(sidecar["drivers"][0]["sha256"]) == 64
    assert (sidecar["model"], sidecar["frames"], sidecar["fps"]) == ("base-1", 2, "25")
    assert sidecar["options"]["motion"]["expression"] == 1.0
    assert sidecar["notes"] == ["no face in 1 of 2 driver frames"]


@pytest.mark.slow
def test_a_second_run_makes_nothing_and_needs_no_avatar(inputs: Path) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    maker = GreyAvatarMaker()
    result = animate(inputs, maker, str(inputs / "out"))
    assert dict(result.counts) == {"done": 0, "skipped": 4, "failed": 0}
    assert (maker.avatars_made, maker.rendered) == ([], [])
    assert len(result.made) == 10
    assert result.ok


@pytest.mark.slow
def test_a_run_that_was_broken_off_makes_only_the_rest(inputs: Path) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    (inputs / "out" / "leo--talk.json").unlink()  # written last: without it the video counts as unfinished
    (inputs / "out" / "anna--smile.mp4").unlink()
    maker = GreyAvatarMaker()
    animate(inputs, maker, str(inputs / "out"))
    assert maker.rendered == ["anna--smile.mp4", "leo--talk.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["model", "options"])
def test_with_another_model_or_options_videos_are_made_again(inputs: Path, changed: str) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    maker, more = GreyAvatarMaker(base="base-2" if changed == "model" else "base-1"), {}
    if changed == "options":
        more["options"] = RenderOptions(max_size=640)
    animate(inputs, maker, str(inputs / "out"), **more)
    assert maker.rendered == ["anna--smile.mp4", "anna--talk.mp4", "leo--smile.mp4", "leo--talk.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "names_in_order"),
    [("talk.mp4", ["anna--talk", "leo--talk"]), ("leo.jpg", ["leo--smile", "leo--talk"])],
)
def test_a_file_of_the_same_name_and_other_content_replaces_no_earlier_video(
    inputs: Path, make_video: Any, changed: str, names_in_order: list[str]
) -> None:
    out = inputs / "out"
    animate(inputs, GreyAvatarMaker(), str(out))
    before = {path: path.read_bytes() for path in out.glob("*--*")}
    if changed == "talk.mp4":
        make_video("talk.mp4", [77, 20])
    else:
        (inputs / "leo.jpg").write_text("another picture")
    maker = GreyAvatarMaker()
    result = animate(inputs, maker, str(out))
    assert [name[: -len("-01234567.mp4")] for name in maker.rendered] == names_in_order
    assert all(path.read_bytes() == content for path, content in before.items())
    assert {f"{name.removesuffix('.mp4')}" for name in maker.rendered} <= {path.stem for path in out.glob("*.json")}
    for name, first in zip(maker.rendered, names_in_order, strict=True):
        assert f"{name}: {first}.mp4 is there, of other files, and is kept" in result.notes
    again = GreyAvatarMaker()
    animate(inputs, again, str(out))
    assert again.rendered == []


@pytest.mark.slow
def test_a_name_that_the_user_chose_is_kept_and_the_loss_of_the_earlier_video_is_said(
    inputs: Path, make_video: Any
) -> None:
    def chosen(items: Sequence[Item]) -> Sequence[Item]:
        return [replace(items[0], name="intro", has_own_name=True)]

    animate(inputs, GreyAvatarMaker(), str(inputs / "out"), drivers=["talk.mp4"], change=chosen)
    make_video("talk.mp4", [77, 20])
    maker = GreyAvatarMaker()
    result = animate(inputs, maker, str(inputs / "out"), drivers=["talk.mp4"], change=chosen)
    assert maker.rendered == ["intro.mp4"]
    assert "intro.mp4: replaces a video of other files" in result.notes


@pytest.mark.slow
def test_a_bad_source_harms_no_other(inputs: Path) -> None:
    result = animate(inputs, GreyAvatarMaker(bad_sources=["anna"]), str(inputs / "out"))
    assert dict(result.counts) == {"done": 2, "skipped": 0, "failed": 2}
    assert result.notes[-1] == f"anna--smile and 1 more: {inputs / 'anna.jpg'}: no face found"
    assert result.ok


def test_a_bad_driver_harms_no_other_and_is_told_once(inputs: Path) -> None:
    (inputs / "text.mp4").write_text("no video")
    maker = GreyAvatarMaker(bad_drivers=["talk"])
    result = animate(inputs, maker, str(inputs / "out"), drivers=["smile.mp4", "talk.mp4", "text.mp4"])
    assert dict(result.counts) == {"done": 2, "skipped": 0, "failed": 4}
    assert sum("talk.mp4" in note for note in result.notes) == 1
    assert sum("text.mp4" in note for note in result.notes) == 1


def test_nothing_usable_is_not_ok(inputs: Path) -> None:
    assert not animate(inputs, GreyAvatarMaker(bad_sources=["anna", "leo"]), str(inputs / "out")).ok


@pytest.mark.slow
def test_the_mosaic_and_the_side_by_side_can_be_left_out(inputs: Path) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"), side_by_side=False, mosaic=False)
    assert len(names(inputs / "out")) == 4 * 2


@pytest.mark.slow
def test_the_mosaic_holds_the_results_in_a_row(inputs: Path) -> None:
    animate(inputs, GreyAvatarMaker(), str(inputs / "out"))
    info = probe(inputs / "out" / "anna.mosaic.mp4")
    assert (info.width, info.height, info.num_frames) == (64, 32, 2)


@pytest.mark.slow
def test_results_can_go_to_a_url_and_are_found_there_again(inputs: Path) -> None:
    out = "memory://batch/out"
    animate(inputs, GreyAvatarMaker(), out)
    assert sum(url.endswith(".mp4") for url in storage.list(out)) == 10
    assert sum(url.endswith(".webp") for url in storage.list(out)) == 4
    maker = GreyAvatarMaker()
    assert animate(inputs, maker, out).counts["skipped"] == 4
    assert maker.rendered == []


@pytest.mark.slow
def test_an_interrupt_passes_through_and_keeps_what_is_done(inputs: Path) -> None:
    maker = GreyAvatarMaker()
    render = maker.render

    def interrupted(avatar: Any, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        if len(maker.rendered) == 2:
            raise KeyboardInterrupt
        return render(avatar, files, options, on_frame)

    maker.render = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        animate(inputs, maker, str(inputs / "out"))
    again = GreyAvatarMaker()
    assert animate(inputs, again, str(inputs / "out")).counts["skipped"] == 2


@pytest.mark.slow
def test_finished_files_keep_their_bytes_and_times(inputs: Path) -> None:
    out = inputs / "out"
    animate(inputs, GreyAvatarMaker(), str(out))
    before = {name: ((out / name).read_bytes(), (out / name).stat().st_mtime_ns) for name in names(out)}
    (out / "leo--talk.json").unlink()
    animate(inputs, GreyAvatarMaker(), str(out))
    after = {name: ((out / name).read_bytes(), (out / name).stat().st_mtime_ns) for name in names(out)}
    assert {name for name in before if before[name] != after[name]} == {
        "leo--talk.mp4",
        "leo--talk.side-by-side.mp4",
        "leo--talk.json",
    }


@pytest.mark.slow
def test_the_report_says_what_became_of_every_video_of_every_run(inputs: Path) -> None:
    out = inputs / "out"
    animate(inputs, GreyAvatarMaker(bad_sources=["leo"]), str(out), drivers=["smile.mp4"])
    animate(inputs, GreyAvatarMaker(), str(out), drivers=["smile.mp4"])
    first, failed, skipped, again = rows(out)
    assert [(row["item"], row["status"]) for row in (first, failed, skipped, again)] == [
        ("anna--smile", "done"),
        ("leo--smile", "failed"),
        ("anna--smile", "skipped"),
        ("leo--smile", "done"),
    ]
    assert first["run"] == failed["run"] < skipped["run"] == again["run"]
    assert failed["reason"] == f"{inputs / 'leo.jpg'}: no face found"
    assert failed["video"] is failed["frames"] is None
    assert (first["source"], first["driver"]) == (str(inputs / "anna.jpg"), str(inputs / "smile.mp4"))
    assert (first["video"], first["frames"], first["fps"]) == (str(out / "anna--smile.mp4"), 2, 25.0)
    assert first["seconds"] > 0
    assert first["started_at"] < first["finished_at"]
    assert first["worker"] == "this process"
    assert skipped["seconds"] is skipped["worker"] is None


@pytest.mark.slow
def test_an_error_that_nobody_expected_costs_one_video(inputs: Path) -> None:
    maker = GreyAvatarMaker()
    render = maker.render

    def crash(avatar: Any, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        if files.out.name == "anna--talk.mp4":
            raise RuntimeError("out of\nmemory")
        return render(avatar, files, options, on_frame)

    maker.render = crash  # type: ignore[method-assign]
    result = animate(inputs, maker, str(inputs / "out"))
    assert dict(result.counts) == {"done": 3, "skipped": 0, "failed": 1}
    assert result.notes[-1] == f"anna--talk: {inputs / 'talk.mp4'}: RuntimeError: out of memory"
