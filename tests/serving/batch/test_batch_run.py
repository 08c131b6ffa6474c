"""Sources x drivers with a studio that paints instead of rendering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import cli, storage
from pipelines.media.video import VideoWriter, probe
from serving.batch.avatar_maker import OnStep, Shot
from serving.batch.batch_run import BatchRun
from serving.batch.inputs import Input, find_drivers, find_sources
from serving.batch.workspace import workspace
from training.animation.render import RenderOptions, RenderReport


@dataclass
class PaintingStudio:
    """Writes two grey frames per video; refuses what its names say."""

    bad_sources: Sequence[str] = ()
    bad_drivers: Sequence[str] = ()
    base: str = "base-1"
    avatars_made: list[str] = field(default_factory=list)
    filmed: list[str] = field(default_factory=list)

    def version(self, source: Input) -> str:
        return self.base

    def avatar(self, source: Input, on_step: OnStep) -> Any:
        if source.name in self.bad_sources:
            raise ValueError(f"{source.url}: no face found")
        self.avatars_made.append(source.name)
        return SimpleNamespace(base_version=self.base)

    def film(self, avatar: Any, shot: Shot, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        if shot.driver.stem in self.bad_drivers:
            raise ValueError(f"{shot.driver}: no face in any frame")
        self.filmed.append(shot.out.name)
        for out in filter(None, (shot.out, shot.side_by_side)):
            with VideoWriter(out, width=32, height=32, fps=Fraction(25)) as writer:
                for done in (1, 2):
                    writer.write(np.full((32, 32, 3), 100 * done, np.uint8))
                    on_frame(done, 2)
        return RenderReport(2, Fraction(25), 32, 32, False, 1, 0.5, 3.0)


@pytest.fixture
def inputs(tmp_path: Path, make_video: Any) -> Path:
    for name in ("anna", "leo"):
        (tmp_path / f"{name}.jpg").write_text(name)
    for number, name in enumerate(("smile", "talk")):
        make_video(f"{name}.mp4", [10 + number, 20])
    return tmp_path


def produce(
    inputs: Path, studio: PaintingStudio, out: str, *, drivers: Sequence[str] = ("smile.mp4", "talk.mp4"), **more: Any
) -> cli.CommandResult:
    mosaic = more.pop("mosaic", True)
    with workspace(out) as space, cli.progress() as progress:
        production = BatchRun(space, studio, more.pop("options", RenderOptions()), progress, **more)
        sources = find_sources([str(inputs / "anna.jpg"), str(inputs / "leo.jpg")]).inputs
        production.animate(sources, find_drivers([str(inputs / name) for name in drivers]).inputs, mosaic=mosaic)
        return production.outcome(1.0)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_every_source_meets_every_driver(inputs: Path) -> None:
    outcome = produce(inputs, PaintingStudio(), str(inputs / "out"))
    assert dict(outcome.counts) == {"rendered": 4, "reused": 0, "failed": 0}
    assert names(inputs / "out") == sorted(
        f"{source}{rest}"
        for source in ("anna", "leo")
        for rest in (
            *(f"--{driver}{end}" for driver in ("smile", "talk") for end in (".mp4", ".side-by-side.mp4", ".json")),
            ".mosaic.mp4",
            ".mosaic.json",
        )
    )
    assert {artefact.what for artefact in outcome.made} == {"video", "side by side", "mosaic"}
    assert len(outcome.made) == 10


def test_the_sidecar_says_what_the_video_is_made_of(inputs: Path) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"))
    sidecar = json.loads((inputs / "out" / "anna--talk.json").read_text())
    assert sidecar["drivers"][0]["path"] == str(inputs / "talk.mp4")
    assert len(sidecar["drivers"][0]["sha256"]) == 64
    assert (sidecar["model"], sidecar["frames"], sidecar["fps"]) == ("base-1", 2, "25")
    assert sidecar["options"]["motion"]["expression"] == 1.0
    assert sidecar["notes"] == ["no face in 1 of 2 driver frames: the motion there is filled in"]


def test_a_second_run_makes_nothing_and_needs_no_avatar(inputs: Path) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"))
    studio = PaintingStudio()
    outcome = produce(inputs, studio, str(inputs / "out"))
    assert dict(outcome.counts) == {"rendered": 0, "reused": 4, "failed": 0}
    assert (studio.avatars_made, studio.filmed) == ([], [])
    assert len(outcome.made) == 10
    assert outcome.ok


def test_a_run_that_was_broken_off_makes_only_the_rest(inputs: Path) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"))
    (inputs / "out" / "leo--talk.json").unlink()  # written last: without it the video counts as unfinished
    (inputs / "out" / "anna--smile.mp4").unlink()
    studio = PaintingStudio()
    produce(inputs, studio, str(inputs / "out"))
    assert studio.filmed == ["anna--smile.mp4", "leo--talk.mp4"]


@pytest.mark.parametrize("changed", ["model", "options", "driver", "source"])
def test_whatever_changes_is_made_again(inputs: Path, make_video: Any, changed: str) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"))
    studio, more = PaintingStudio(base="base-2" if changed == "model" else "base-1"), {}
    if changed == "options":
        more["options"] = RenderOptions(max_size=640)
    elif changed == "driver":
        make_video("talk.mp4", [77, 20])
    elif changed == "source":
        (inputs / "leo.jpg").write_text("another picture")
    produce(inputs, studio, str(inputs / "out"), **more)
    expected = {"driver": ["anna--talk.mp4", "leo--talk.mp4"], "source": ["leo--smile.mp4", "leo--talk.mp4"]}
    everything = ["anna--smile.mp4", "anna--talk.mp4", "leo--smile.mp4", "leo--talk.mp4"]
    assert studio.filmed == expected.get(changed, everything)


def test_a_bad_source_harms_no_other(inputs: Path) -> None:
    outcome = produce(inputs, PaintingStudio(bad_sources=["anna"]), str(inputs / "out"))
    assert dict(outcome.counts) == {"rendered": 2, "reused": 0, "failed": 2}
    assert outcome.notes[0] == f"{inputs / 'anna.jpg'}: no face found"
    assert outcome.ok


def test_a_bad_driver_harms_no_other_and_is_told_once(inputs: Path) -> None:
    (inputs / "text.mp4").write_text("no video")
    studio = PaintingStudio(bad_drivers=["talk"])
    outcome = produce(inputs, studio, str(inputs / "out"), drivers=["smile.mp4", "talk.mp4", "text.mp4"])
    assert dict(outcome.counts) == {"rendered": 2, "reused": 0, "failed": 4}
    assert sum("talk.mp4" in note for note in outcome.notes) == 1
    assert sum("text.mp4" in note for note in outcome.notes) == 1


def test_nothing_usable_is_not_ok(inputs: Path) -> None:
    assert not produce(inputs, PaintingStudio(bad_sources=["anna", "leo"]), str(inputs / "out")).ok


def test_the_mosaic_and_the_side_by_side_can_be_left_out(inputs: Path) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"), side_by_side=False, mosaic=False)
    assert len(names(inputs / "out")) == 4 * 2


def test_the_mosaic_holds_the_results_in_a_row(inputs: Path) -> None:
    produce(inputs, PaintingStudio(), str(inputs / "out"))
    info = probe(inputs / "out" / "anna.mosaic.mp4")
    assert (info.width, info.height, info.num_frames) == (64, 32, 2)


def test_results_can_go_to_a_url_and_are_found_there_again(inputs: Path) -> None:
    out = "memory://production/out"
    produce(inputs, PaintingStudio(), out)
    assert sum(url.endswith(".mp4") for url in storage.list(out)) == 10
    studio = PaintingStudio()
    assert produce(inputs, studio, out).counts["reused"] == 4
    assert studio.filmed == []


def test_an_interrupt_passes_through_and_keeps_what_is_done(inputs: Path) -> None:
    studio = PaintingStudio()
    film = studio.film

    def interrupted(avatar: Any, shot: Shot, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        if len(studio.filmed) == 2:
            raise KeyboardInterrupt
        return film(avatar, shot, options, on_frame)

    studio.film = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        produce(inputs, studio, str(inputs / "out"))
    again = PaintingStudio()
    assert produce(inputs, again, str(inputs / "out")).counts["reused"] == 2
