"""The benchmark's words, counts and arithmetic; never its seconds."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import sfumato
from pipelines import assets
from pipelines.benchmarks.clips import synthesize_clips
from pipelines.benchmarks.preprocess import Figures
from pipelines.benchmarks.rounds import Cost
from pipelines.media.video import probe

FIGURES = Figures(
    ours=Cost(0.6, 0.7),
    parts={"decode": Cost(0.1, 0.1), "landmarks": Cost(0.35, 0.3), "crop": Cost(0.03, 0.1), "encode": Cost(0.02, 0.1)},
    first_look=Cost(0.28, 0.3),
    reference=Cost(6.0, 7.0),
    stages={},
    start_up={},
    outcomes={"done": 6},
    frames={},
    bytes_per_clip=1,
    machine={},
)


def test_ratios_are_of_cpu_seconds() -> None:
    assert FIGURES.ratios == {
        "ours_over_parts": pytest.approx(1.2),
        "landmarks_over_first_look": pytest.approx(1.25),
        "reference_over_ours": pytest.approx(10.0),
    }
    assert dataclasses.replace(FIGURES, reference=None).ratios.keys() == {
        "ours_over_parts",
        "landmarks_over_first_look",
    }


def test_hours_are_those_of_voxceleb2() -> None:
    # 1,128,246 clips of 0.6 s: 188.04 h.
    assert FIGURES.voxceleb2_hours == {
        "1 core": pytest.approx(188.04, abs=0.01),
        "64 cores": pytest.approx(2.938, abs=0.001),
    }


@pytest.mark.slow
def test_every_method_is_measured_and_reported_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    video_path = str(assets.fetch("clip_carphone"))
    arguments = ["--videos", video_path, "--clips", "2", "--rounds", "1", "--seconds", "1", "--json"]
    assert sfumato.main(["bench", "preprocess", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = found["figures"]
    assert found["counts"] == {"videos": 1, "clips": 2, "rounds": 1}
    assert figures["outcomes"] == {"done": 2}
    assert figures["parts"].keys() == {"decode", "landmarks", "crop", "encode"}
    assert found["ratios"].keys() == {"ours_over_parts", "landmarks_over_first_look", "reference_over_ours"}
    assert all(value > 0 for value in found["ratios"].values())
    assert figures["frames"]["kept"] <= figures["frames"]["looked at"] <= figures["frames"]["decoded"]


def test_each_synthetic_person_has_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "synthetic"))
    from square_renderer import SquareRenderer

    monkeypatch.setattr("pipelines.synthetic.render.renderer.Renderer", SquareRenderer)
    videos, notes = synthesize_clips(3, tmp_path, 0.4)
    assert [video_path.name for video_path in videos] == ["id20001.mp4", "id20002.mp4", "id20003.mp4"]
    assert [probe(video_path).num_frames for video_path in videos] == [10, 10, 10]  # 25 a second
    assert len({video_path.read_bytes() for video_path in videos}) == 3
    assert notes == []


def test_what_cannot_be_measured_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    for arguments, code, message in (
        (["--videos", str(tmp_path / "gone.mp4")], 2, "gone.mp4 does not exist"),
        (["--videos", str(tmp_path / "text.mp4")], 1, "text.mp4 is not a readable video"),
        (["--videos", "a.mp4", "--synthetic", "2"], 2, "give --videos, or --synthetic with the number of people"),
        (["--rounds", "0"], 2, "--rounds must be at least 1, got 0"),
    ):
        assert sfumato.main(["bench", "preprocess", *arguments]) == code, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
